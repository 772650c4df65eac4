package pgbackrest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/pki"
	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const loopback = "127.0.0.1"

// server is a real one, and the unit that it would be.
type server struct {
	dir, peer string
	u         plan.Unit
	start     func(context.Context, string) error
	stop      func()
}

func newServer(t *testing.T, names ...string) *server {
	t.Helper()
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := &server{dir: t.TempDir()}
	s.peer = filepath.Join(s.dir, "peer.pem")
	s.mint(t, names...)
	config := filepath.Join(s.dir, "server.conf")
	content := fmt.Sprintf("[global]\ntls-server-address=%s\ntls-server-port=%d\ntls-server-ca-file=%[3]s\ntls-server-cert-file=%[3]s\n"+
		"tls-server-key-file=%[3]s\ntls-server-auth=c=c\nlog-level-file=off\nlock-path=%[4]s\n", loopback, port, s.peer, s.dir)
	write(t, config, content)
	s.u = plan.Unit{Unit: plan.BackupServerUnit("c"), Program: plan.BackupServer, Files: []plan.File{{Path: config, Content: content}, {Path: s.peer}}}
	s.stop = func() {}
	s.start = func(context.Context, string) error {
		s.stop()
		cmd := exec.Command(binary, "--config="+config, "server")
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("%w: apt-get install pgbackrest", err)
		}
		s.stop = func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		return nil
	}
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *server) mint(t *testing.T, names ...string) {
	t.Helper()
	text, err := pki.Peer("c", names, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.peer, "# a header, as ours have\n"+string(text))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestServer: the real program takes the certificate as its own, as a client's and as the only
// authority; Prove tells a server that has another one, and one that is not there.
func TestServer(t *testing.T) {
	s := newServer(t, loopback, "10.0.0.1")
	p, ctx := NewServer(ServerOptions{Restart: s.start}), t.Context()
	staged := unit.Staged{Unit: s.u, Paths: map[string]string{s.peer: s.peer}}
	if err := p.Validate(ctx, staged); err != nil {
		t.Fatal(err)
	}
	var no *plan.Refusal
	if err := p.Prove(ctx, s.u); !errors.As(err, &no) || no.Reason != observed.NotAnswering {
		t.Errorf("nobody is there: %v", err)
	}
	if err := p.Reload(ctx, s.u); err != nil {
		t.Fatal(err)
	}
	if err := p.Prove(ctx, s.u); err != nil {
		t.Fatal(err)
	}
	s.mint(t, loopback) // in its place, and the server was not told
	if err := p.Prove(ctx, s.u); !errors.As(err, &no) || no.Reason != observed.NotAnswering {
		t.Errorf("it shows another certificate: %v", err)
	}
	if err := p.Reload(ctx, s.u); err != nil {
		t.Fatal(err)
	}
	if err := p.Prove(ctx, s.u); err != nil {
		t.Error(err)
	}
}

// TestServerTakesNobodyElse: who shows another certificate is sent away, of the same name too.
func TestServerTakesNobodyElse(t *testing.T) {
	s := newServer(t, loopback)
	if err := s.start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	at, ok := parseServer([]byte(s.u.Files[0].Content))
	if !ok {
		t.Fatal("its settings can't be read")
	}
	if err := NewServer(ServerOptions{}).Prove(t.Context(), s.u); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(s.dir, "foreign.pem")
	text, err := pki.Peer("c", []string{loopback}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	write(t, foreign, string(text))
	// pgBackRest has no client that shows nothing.
	for name, c := range map[string]struct{ show, words string }{"ours": {s.peer, "unable to find primary"}, "another": {foreign, "alert"}} {
		args := []string{
			"--stanza=c", "--config=/dev/null", "--repo1-path=" + s.dir, "--lock-path=" + s.dir + "/" + name, "--log-level-file=off", "--pg1-path=/nowhere",
			"--pg1-host=" + loopback, "--pg1-host-type=tls", fmt.Sprintf("--pg1-host-port=%d", at.port), "--pg1-host-ca-file=" + s.peer,
			"--pg1-host-cert-file=" + c.show, "--pg1-host-key-file=" + c.show,
		}
		out, err := exec.Command(binary, append(args, "--io-timeout=3", "stanza-create")...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.words) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	if err := (serverAddress{host: "127.0.0.2", port: at.port, peer: at.peer}).reach(t.Context()); err == nil {
		t.Error("a certificate that is not for an address is taken there")
	}
}

// TestServerValidate: what could not be shown or listened on is refused before anything changes.
func TestServerValidate(t *testing.T) {
	s := newServer(t, loopback)
	bad := filepath.Join(s.dir, "bad.pem")
	write(t, bad, "nothing\n")
	for name, c := range map[string]struct {
		unit plan.Unit
		peer string
		free func(int, string) error
	}{
		"no address":  {unit: plan.Unit{Unit: "x", Files: []plan.File{{Content: "[global]\n"}}}},
		"certificate": {unit: s.u, peer: bad},
		"port":        {unit: s.u, peer: s.peer, free: func(int, string) error { return errors.New("taken") }},
	} {
		err := NewServer(ServerOptions{Free: c.free}).Validate(t.Context(), unit.Staged{Unit: c.unit, Paths: map[string]string{s.peer: c.peer}})
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestStandbyOptions(t *testing.T) {
	c := parseConfig([]byte("[c]\npg1-path=/data\npg1-port=5433\npg1-socket-path=/run\npg1-user=postgres\n"))
	at := serverAddress{"10.0.0.1", 8432, "/x.pem"}
	got := at.options(c, "c", "10.0.0.2")
	for _, want := range []string{
		"--backup-standby=y", "--pg2-host=10.0.0.2", "--pg2-host-type=tls", "--pg2-host-port=8432", "--pg2-host-ca-file=/x.pem", "--pg2-host-cert-file=/x.pem",
		"--pg2-host-key-file=/x.pem", "--pg2-path=/data", "--pg2-port=5433", "--pg2-socket-path=/run", "--pg2-user=postgres",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
}
