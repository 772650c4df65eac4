package dnsmasq

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// server runs the real dnsmasq on one file, as systemd would.
type server struct {
	t    *testing.T
	conf string
	port string
	cmd  *exec.Cmd
}

func newServer(t *testing.T) (*server, *Program) {
	t.Helper()
	binary, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Fatal("needs dnsmasq: apt-get install dnsmasq-base")
	}
	s := &server{t: t, conf: filepath.Join(t.TempDir(), "pgctrl.conf"), port: strconv.Itoa(freeport.Take(t))}
	t.Cleanup(s.stop)
	return s, NewProgram(Options{
		Binary: binary, Port: s.port, Restart: s.restart,
		Journal: func(context.Context, string, int) string { return "dnsmasq: FAILED to start up\n" },
	})
}

func (s *server) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

func (s *server) restart(ctx context.Context, _ string) error {
	s.stop()
	s.cmd = exec.Command("dnsmasq", "-k", "--conf-file="+s.conf, "--no-resolv", "--no-hosts", "--port="+s.port, "--user=root",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--log-facility=-", "--pid-file=")
	return s.cmd.Start()
}

func (s *server) write(text string) plan.Unit {
	s.t.Helper()
	if err := os.WriteFile(s.conf, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return plan.Unit{Unit: "dnsmasq.service", Program: "dnsmasq", Files: []plan.File{{Path: s.conf, Mode: "0644", Content: text}}}
}

func reason(err error) observed.Reason {
	var r *plan.Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

// TestProofIsOfTheFileThatRuns: the running server's own answer says which file it has.
func TestProofIsOfTheFileThatRuns(t *testing.T) {
	s, p := newServer(t)
	proof := func(n int) string {
		return fmt.Sprintf("local-ttl=1\ntxt-record=%s,%d\n", plan.DNSProof, n)
	}
	first := s.write(proof(1))
	if err := p.Reload(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := p.Prove(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second := s.write(proof(2)) // on disk, and not read yet
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.Prove(ctx, second); reason(err) != observed.NotAnswering || !strings.Contains(err.Error(), `"1"`) {
		t.Errorf("before the restart: %v", err)
	}
	if err := p.Reload(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if err := p.Prove(t.Context(), second); err != nil {
		t.Error(err)
	}
	if err := p.Prove(t.Context(), s.write("local-ttl=1\n")); reason(err) != observed.Rejected {
		t.Errorf("a file without proof: %v", err)
	}
}

func TestValidate(t *testing.T) {
	s, p := newServer(t)
	staged := func(text string) unit.Staged {
		u := s.write(text)
		return unit.Staged{Unit: u, Paths: map[string]string{"/etc/dnsmasq.d/pgctrl.conf": s.conf}}
	}
	if err := p.Validate(t.Context(), staged("local-ttl=1\n")); err != nil {
		t.Error(err)
	}
	err := p.Validate(t.Context(), staged("local-ttl=1\nlocal-tll=1\n"))
	if reason(err) != observed.Rejected || !strings.Contains(err.Error(), "at line 2 of /etc/dnsmasq.d/pgctrl.conf") {
		t.Errorf("a slip: %v", err)
	}
	if err := NewProgram(Options{Binary: "/nowhere/dnsmasq"}).Validate(t.Context(), staged("local-ttl=1\n")); err == nil || reason(err) != "" {
		t.Errorf("no program: %v, which says nothing of the file", err)
	}
}

// TestReloadThatSomebodyCutShort says nothing of the file; one that fails does.
func TestReloadThatSomebodyCutShort(t *testing.T) {
	for result, want := range map[string]observed.Reason{"canceled": "", "failed": observed.Rejected, "timeout": observed.Rejected} {
		p := NewProgram(Options{Restart: func(context.Context, string) error {
			return errors.Join(&systemd.JobError{Op: "stop", Unit: "dnsmasq.service", Result: result}, nil)
		}})
		if err := p.Reload(t.Context(), plan.Unit{Unit: "dnsmasq.service"}); err == nil || reason(err) != want {
			t.Errorf("%s: %v", result, err)
		}
	}
}

// TestOutsideIsTheFolder: a folder that was made anew is another one to dnsmasq.
func TestOutsideIsTheFolder(t *testing.T) {
	_, p := newServer(t)
	dir := filepath.Join(t.TempDir(), "hosts.d")
	content := map[string][]byte{"pgctrl.conf": []byte("# x\nhostsdir=" + dir + "\n")}
	absent := p.Outside(content)
	mkdir := func() {
		t.Helper()
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mkdir()
	first := p.Outside(content)
	if err := os.WriteFile(filepath.Join(dir, "c"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if again := p.Outside(content); again != first || first == absent {
		t.Errorf("%q, %q, absent %q", first, again, absent)
	}
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	mkdir()
	if second := p.Outside(content); second == first {
		t.Errorf("another folder is %q too", second)
	}
	// Removed and not only moved away, its number is free for the next: ext4 takes it at once.
	for range 10 {
		before := p.Outside(content)
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // a birth is known to a tick of the kernel, 4 ms
		mkdir()
		if after := p.Outside(content); after == before {
			t.Fatalf("the folder made anew is %q too", after)
		}
	}
	if got := p.Outside(map[string][]byte{"x": []byte("no-hosts\n")}); got != "" {
		t.Errorf("without a folder: %q", got)
	}
}
