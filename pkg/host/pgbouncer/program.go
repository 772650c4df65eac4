package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/host/certificate"
	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Options says where things are. The zero value of a field is its default.
type Options struct {
	// Binary is the program to validate with; looked up in PATH and /usr/sbin.
	Binary string
	// RunDir holds a folder per cluster with the pooler's socket.
	RunDir string
	// ScratchDir is where the throwaway process has its files, for moments: it holds a
	// password, so it should not be a disk.
	ScratchDir string
	// User runs the throwaway process when the agent is root, which PgBouncer refuses to be.
	User string
	// Within bounds how long a process may take to answer.
	Within time.Duration
	// Restart stops the unit and starts it again.
	Restart func(ctx context.Context, unit string) error
	// Free refuses a port that somebody other than the unit has; may be nil.
	Free func(port int, unit string) error
	Log  *zap.Logger
}

// The defaults of Options.
const (
	DefaultScratchDir = "/run"
	DefaultUser       = "postgres"
	DefaultWithin     = 10 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Binary == "" {
		o.Binary = "pgbouncer"
	}
	if o.RunDir == "" {
		o.RunDir = plan.PoolersDir
	}
	if o.ScratchDir == "" {
		o.ScratchDir = DefaultScratchDir
	}
	if o.User == "" {
		o.User = DefaultUser
	}
	if o.Within == 0 {
		o.Within = DefaultWithin
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

// Program says how PgBouncer's configuration is validated, reloaded and proved.
type Program struct{ o Options }

var (
	_ unit.Program  = (*Program)(nil)
	_ unit.Outsider = (*Program)(nil)
)

// NewProgram makes the program.
func NewProgram(o Options) *Program { return &Program{o: o.withDefaults()} }

// Restart reports that the agent may start PgBouncer again: it holds no data, and a
// stopped one is drift (R9).
func (p *Program) Restart() bool { return true }

// BeforeStart has nothing to prepare.
func (p *Program) BeforeStart(context.Context, plan.Unit) error { return nil }

// Reload brings the files into force. Only a setting that PgBouncer reads at its start
// and never again makes it a restart.
func (p *Program) Reload(ctx context.Context, u plan.Unit) error {
	want, _ := configOf(u)
	ctx, cancel := context.WithTimeout(ctx, p.o.Within)
	defer cancel()
	c, err := open(ctx, p.dir(u.Unit))
	if err != nil {
		return notAnswering(u.Unit, err)
	}
	defer c.close()
	late, err := c.needRestart(ctx, want)
	if err != nil {
		return notAnswering(u.Unit, err)
	}
	if len(late) > 0 && p.o.Restart != nil {
		p.o.Log.Info("restarting: PgBouncer reads a setting at its start only", zap.String("unit", u.Unit), zap.Strings("settings", late))
		return p.o.Restart(ctx, u.Unit)
	}
	if _, err := c.ask(ctx, "RELOAD"); err != nil {
		return p.said(u.Unit, err)
	}
	return nil
}

// said tells PgBouncer's own no (1.25 gives one) from silence.
func (p *Program) said(name string, err error) error {
	if words := words(err); words != "" {
		return &plan.Refusal{Reason: observed.Rejected, Message: words, Next: "journalctl -n 30 -u " + name}
	}
	return notAnswering(name, err)
}

// Prove asks the running PgBouncer for its settings and databases, and its port for a
// connection.
func (p *Program) Prove(ctx context.Context, u plan.Unit) error {
	want, path := configOf(u)
	ctx, cancel := context.WithTimeout(ctx, p.o.Within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var refused *plan.Refusal
	for {
		different, err := p.proof(ctx, u.Unit, want)
		switch {
		case err == nil && len(different) == 0:
			return nil
		case err == nil:
			return &plan.Refusal{Reason: observed.Rejected, Next: "journalctl -n 30 -u " + u.Unit,
				Message: fmt.Sprintf("pgbouncer did not take %s: %s", path, list(different))}
		case errors.As(err, &refused):
			return err
		}
		select {
		case <-ctx.Done():
			return notAnswering(u.Unit, err)
		case <-tick.C:
		}
	}
}

// proof is one attempt: what differs, or why it could not be asked.
func (p *Program) proof(ctx context.Context, name string, want config) ([]string, error) {
	c, err := open(ctx, p.dir(name))
	if err != nil {
		return nil, err
	}
	defer c.close()
	different, err := c.differs(ctx, want)
	if err != nil || len(different) > 0 {
		return different, err
	}
	port := want["pgbouncer"]["listen_port"]
	if err := listens(ctx, port); err != nil {
		return nil, err
	}
	// It shows the settings of files that it could not use, and says nothing.
	return nil, certificate.Prove(ctx, port, shows(want))
}

// shows are the files with what it shows to clients.
func shows(c config) certificate.Files {
	set := c["pgbouncer"]
	if set["client_tls_sslmode"] == "" {
		return certificate.Files{}
	}
	return certificate.Files{Certificate: set["client_tls_cert_file"], Key: set["client_tls_key_file"]}
}

func (p *Program) judge() certificate.Judge { return certificate.Judge{User: p.o.User} }

// Outside implements unit.Outsider.
func (p *Program) Outside(content map[string][]byte) string {
	for path, b := range content {
		if strings.HasSuffix(path, ".ini") {
			return p.judge().Outside(shows(read(string(b))), func(path string) bool { return content[path] != nil })
		}
	}
	return ""
}

// listens reports whether anybody takes connections on a port of this host.
func listens(ctx context.Context, port string) error {
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("localhost", port))
	if err != nil {
		return fmt.Errorf("it does not listen on port %s: %w", port, err)
	}
	return conn.Close()
}

func (p *Program) dir(name string) string { return filepath.Join(p.o.RunDir, clusterOf(name)) }

// clusterOf is the instance name of a template unit.
func clusterOf(name string) string {
	_, instance, _ := strings.Cut(strings.TrimSuffix(name, ".service"), "@")
	return instance
}

// configOf finds the configuration among the unit's files.
func configOf(u plan.Unit) (config, string) {
	for _, f := range u.Files {
		if strings.HasSuffix(f.Path, ".ini") {
			return read(f.Content), f.Path
		}
	}
	return config{}, ""
}

func notAnswering(name string, err error) error {
	return &plan.Refusal{Reason: observed.NotAnswering, Message: fmt.Sprintf("%s does not answer: %v", name, err),
		Next: "systemctl status " + name}
}

func (p *Program) checkPort(name string, want config) error {
	port, err := strconv.Atoi(want["pgbouncer"]["listen_port"])
	if err != nil || p.o.Free == nil {
		return nil // PgBouncer itself judges the number
	}
	return p.o.Free(port, name)
}

var errMissing = errors.New("pgbouncer is not installed on this node")
