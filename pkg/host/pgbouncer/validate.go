package pgbouncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Validate starts a throwaway PgBouncer with the staged files. It listens on a socket
// in a folder of its own and on no port, so no client finds it; it must come up and say
// that it has what the file says.
func (p *Program) Validate(ctx context.Context, s unit.Staged) error {
	binary, err := p.binary()
	if err != nil {
		return &plan.Refusal{Reason: observed.MissingProgram, Message: err.Error(), Next: "apt-get install -y --no-install-recommends pgbouncer"}
	}
	want, path := configOf(s.Unit)
	if err := p.checkPort(s.Unit.Unit, want); err != nil {
		return err
	}
	if err := p.judge().Check(shows(want), s.Paths, time.Now()); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(p.o.ScratchDir, "pgbouncer-check-")
	if err != nil {
		return fmt.Errorf("validate %s: %w", path, err)
	}
	defer os.RemoveAll(dir)
	as, err := files.Credential(p.o.User)
	if err != nil {
		return fmt.Errorf("validate %s: %w", path, err)
	}
	ini, err := scratch(dir, s, path, as)
	if err != nil {
		return fmt.Errorf("validate %s: %w", path, err)
	}
	content, err := os.ReadFile(ini)
	if err != nil {
		return fmt.Errorf("validate %s: %w", path, err)
	}
	return p.tryOut(ctx, binary, ini, path, read(string(content)), as)
}

// scratch writes the staged files for the throwaway process. The configuration names
// what is in dir instead of what is in force.
func scratch(dir string, s unit.Staged, path string, as *syscall.Credential) (ini string, err error) {
	with := map[string]string{"listen_addr": "", "unix_socket_dir": dir}
	put := func(name, content string) error {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return err
		}
		return give(name, as)
	}
	config := ""
	mine := map[string]string{} // by the final path
	for final, staged := range s.Paths {
		b, err := os.ReadFile(staged)
		if err != nil {
			return "", err
		}
		if final == path {
			config = string(b)
			continue
		}
		mine[final] = filepath.Join(dir, filepath.Base(final))
		if err := put(mine[final], string(b)); err != nil {
			return "", err
		}
	}
	for key, value := range read(config)["pgbouncer"] {
		if path, staged := mine[value]; staged {
			with[key] = path
		}
	}
	ini = filepath.Join(dir, filepath.Base(path))
	if err := put(ini, replace(config, with)); err != nil {
		return "", err
	}
	return ini, give(dir, as)
}

func give(path string, as *syscall.Credential) error {
	if as == nil {
		return nil
	}
	return os.Chown(path, int(as.Uid), int(as.Gid))
}

// tryOut runs the process until it has answered or died.
func (p *Program) tryOut(ctx context.Context, binary, ini, path string, want config, as *syscall.Credential) error {
	ctx, cancel := context.WithTimeout(ctx, p.o.Within)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, ini)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env, cmd.Dir = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("validate %s: run pgbouncer: %w", path, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := func() error { cancel(); return <-ended }
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if words := faults(said.String(), ini, path); words != "" && ctx.Err() == nil {
				return &plan.Refusal{Reason: observed.Rejected, Message: "pgbouncer: " + words}
			}
			return fmt.Errorf("validate %s: pgbouncer ended (%w): %s", path, err, strings.TrimSpace(said.String()))
		case <-tick.C:
		}
		different, err := answer(ctx, filepath.Dir(ini), want)
		switch {
		case err != nil && ctx.Err() != nil:
			_ = stop()
			return fmt.Errorf("validate %s: pgbouncer does not answer: %w", path, err)
		case err != nil:
			continue // it is not up yet, or about to end
		}
		_ = stop()
		if words := faults(said.String(), ini, path); len(different) > 0 || words != "" {
			return &plan.Refusal{Reason: observed.Rejected,
				Message: "pgbouncer: " + list(append(nonEmpty(words), different...))}
		}
		return nil
	}
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func answer(ctx context.Context, dir string, want config) ([]string, error) {
	c, err := open(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.differs(ctx, want)
}

// logLine is "2026-11-25 21:45:01.440 UTC [12533] ERROR words".
var logLine = regexp.MustCompile(`(?m)^\S+ \S+ \S+ \[\d+\] (ERROR|FATAL|WARNING) (.*)$`)

// faults are the complaints in what the process wrote, with the file's final name.
func faults(said, ini, path string) string {
	var words []string
	for _, m := range logLine.FindAllStringSubmatch(said, -1) {
		if m[1] == "FATAL" && len(words) > 0 {
			continue // "cannot load config file", after the reason
		}
		words = append(words, strings.ReplaceAll(m[2], ini, path))
	}
	return list(words)
}

func (p *Program) binary() (string, error) {
	if path, err := exec.LookPath(p.o.Binary); err == nil {
		return path, nil
	}
	path := filepath.Join("/usr/sbin", p.o.Binary)
	if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 {
		return path, nil
	}
	return "", errMissing
}

// words are PgBouncer's own, when it gave an answer at all.
func words(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Message
	}
	return ""
}
