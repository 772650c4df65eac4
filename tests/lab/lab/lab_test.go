package lab

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The lab under test has a name and subnet of its own, so that it runs beside one that a person or another test has up.
var testOptions = Options{Name: "labtest", Subnet: "10.10.99.0/24", Hosts: []string{"infra1", "pg1"}}

// TestLab walks through a lab's life on real machines. It fails, not skips, where a lab can't run: without one nothing that matters is tested.
func TestLab(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute) // the image may have to be built
	defer cancel()
	options := testOptions
	options.Log = testWriter{t}

	if err := Down(ctx, options.Name, false); err != nil {
		t.Fatal("remove what an earlier run left:", err)
	}
	crashedRun(t, ctx)
	l, err := Up(ctx, options)
	if err != nil {
		t.Fatal("up after a crash in the middle of up:", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			var said bytes.Buffer
			l.Diagnose(context.Background(), &said)
			t.Log(said.String())
		}
		if err := Down(context.Background(), options.Name, true); err != nil {
			t.Error(err)
		}
	})
	infra1, pg1 := l.Host("infra1"), l.Host("pg1")

	t.Run("is a real host", func(t *testing.T) {
		for _, argv := range [][]string{
			{"busctl", "status", "--no-pager", "org.freedesktop.systemd1"},
			{"runuser", "-u", "postgres", "--", "psql", "-p", "5432", "-Atc", "select 1"},
			{"ip", "address", "add", "10.10.99.9/32", "dev", "eth0"}, // a later boot must not have it
			{"sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1"},
			{"systemd-run", "--wait", "-q", "-p", "LimitNOFILE=65536", "true"},
		} {
			if _, err := pg1.Exec(ctx, argv...); err != nil {
				t.Error(err)
			}
		}
		// One at a time: is-active is content when one of several is.
		for _, unit := range []string{"dbus", "systemd-journald", "haproxy", "pgbouncer", "dnsmasq", "prometheus", "postgresql@*-main.service"} {
			if _, err := pg1.Exec(ctx, "systemctl", "is-active", unit); err != nil {
				t.Errorf("%s, as Debian starts it: %v", unit, err)
			}
		}
		if text := pg1.Journal(ctx, "haproxy.service"); !strings.Contains(text, "haproxy") {
			t.Errorf("journal of haproxy: %q", text)
		}
		if a, b := identity(t, infra1), identity(t, pg1); a == b {
			t.Errorf("two hosts with one machine-id %s", a)
		}
	})
	t.Run("knows its neighbours", func(t *testing.T) {
		wantReach(t, true, infra1, "pg1")
		wantReach(t, true, pg1, "infra1")
		wantReach(t, true, pg1, "10.10.99.1")
		if conn, err := net.DialTimeout("tcp", infra1.IP+":9090", 5*time.Second); err != nil {
			t.Error("the machine dials a host:", err)
		} else {
			conn.Close()
		}
	})
	t.Run("files", func(t *testing.T) {
		if err := pg1.WriteFile(ctx, "/etc/new/kept", 0o640, []byte("kept\n")); err != nil {
			t.Fatal(err)
		}
		if out, err := pg1.Exec(ctx, "stat", "-c", "%a %U", "/etc/new/kept"); err != nil || out != "640 root\n" {
			t.Error(out, err)
		}
		if _, err := pg1.ReadFile(ctx, "/etc/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Error("a missing file:", err)
		}
		var exit *exec.ExitError
		if _, err := pg1.Exec(ctx, "ls", "/none"); !errors.As(err, &exit) || !strings.Contains(err.Error(), "No such file") {
			t.Error("an error must carry the exit status and standard error:", err)
		}
	})
	t.Run("a command ends with its context", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		if _, err := pg1.Exec(short, "sleep", "1234"); err == nil {
			t.Error("sleep came back")
		}
		if err := pg1.Kill(ctx, "sleep 1234", "0"); err == nil {
			t.Error("the command lives on in the host")
		}
	})
	t.Run("cut and heal", func(t *testing.T) { cutAndHeal(t, ctx, l) })
	t.Run("pause and freeze", func(t *testing.T) { pauseAndFreeze(t, ctx, pg1) })
	t.Run("power", func(t *testing.T) { power(t, ctx, l) })
	t.Run("one process at a time", func(t *testing.T) {
		other, err := Attach(options.Name)
		if err != nil || len(other.Hosts()) != 2 {
			t.Fatal(other, err)
		}
		if err := other.Down(ctx); !errors.Is(err, ErrInUse) {
			t.Error("down while another holds the lab:", err)
		}
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		if _, err := Up(short, testOptions); err == nil {
			t.Error("two holders of one lab")
		}
	})
	t.Run("down leaves nothing", func(t *testing.T) {
		for range 2 {
			if err := l.Down(ctx); err != nil {
				t.Fatal(err)
			}
		}
		leftovers(t, options.Name)
	})
}

func cutAndHeal(t *testing.T, ctx context.Context, l *Lab) {
	infra1, pg1 := l.Host("infra1"), l.Host("pg1")
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	step(pg1.Cut(ctx, infra1))
	wantReach(t, false, pg1, "infra1")
	wantReach(t, false, infra1, "pg1")
	wantReach(t, true, pg1, "10.10.99.1")
	step(infra1.Heal(ctx, pg1))
	wantReach(t, true, pg1, "infra1")

	step(pg1.Cut(ctx))
	step(pg1.Cut(ctx)) // again is no error
	wantReach(t, false, pg1, "10.10.99.1")
	wantReach(t, false, infra1, "pg1")
	status, err := l.Status(ctx)
	step(err)
	if got := strings.Join(status[1].Cut, ", "); got != "to *, from *" || status[1].State == "off" {
		t.Errorf("status of a cut host: %+v", status[1])
	}
	step(pg1.Heal(ctx))
	wantReach(t, true, pg1, "10.10.99.1")

	// What pg1 sends is dropped, what it hears is not.
	step(pg1.CutOneWay(ctx, infra1))
	wantReach(t, false, pg1, "infra1")
	step(l.Heal(ctx))
	wantReach(t, true, pg1, "infra1")

	step(l.Machine().Cut(ctx, pg1))
	wantReach(t, false, pg1, "10.10.99.1")
	wantReach(t, true, pg1, "infra1")
	step(l.Heal(ctx))
}

func pauseAndFreeze(t *testing.T, ctx context.Context, h *Host) {
	states := func() string {
		out, err := h.Exec(ctx, "ps", "-C", "haproxy", "-o", "state=")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out), "")
	}
	// A process shows the state once it was scheduled.
	become := func(is func(states string) bool) bool {
		part, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return poll(part, 50*time.Millisecond, func() (bool, error) { return is(states()), nil }) == nil
	}
	if err := h.Pause(ctx, "haproxy"); err != nil || !become(func(s string) bool { return s != "" && strings.Trim(s, "T") == "" }) {
		t.Error("paused:", states(), err)
	}
	if err := h.Resume(ctx, "haproxy"); err != nil || !become(func(s string) bool { return s != "" && !strings.Contains(s, "T") }) {
		t.Error("resumed:", states(), err)
	}
	if err := h.Kill(ctx, "no such process", "KILL"); err == nil {
		t.Error("killed nothing without an error")
	}
	if err := h.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	if s := h.status(ctx); s.State != "frozen" {
		t.Error("frozen:", s)
	}
	if err := h.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Exec(ctx, "true"); err != nil {
		t.Error(err)
	}
}

func power(t *testing.T, ctx context.Context, l *Lab) {
	infra1, pg1 := l.Host("infra1"), l.Host("pg1")
	before := identity(t, pg1)
	if err := pg1.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := pg1.Exec(ctx, "true"); !errors.Is(err, ErrOff) {
		t.Error("a host without power:", err)
	}
	wantReach(t, false, infra1, "pg1")
	if err := pg1.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	if content, err := pg1.ReadFile(ctx, "/etc/new/kept"); err != nil || string(content) != "kept\n" {
		t.Errorf("the disk after a crash: %q, %v", content, err)
	}
	if after := identity(t, pg1); after != before {
		t.Errorf("machine-id %s became %s", before, after)
	}
	if out, err := pg1.Exec(ctx, "ip", "-br", "address"); err != nil || strings.Contains(out, "10.10.99.9/") {
		t.Error("an address outlived a crash:", out, err)
	}
	wantReach(t, true, infra1, "pg1")
	if err := pg1.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	if content, err := pg1.ReadFile(ctx, "/etc/new/kept"); err != nil || string(content) != "kept\n" {
		t.Errorf("the disk after a reboot: %q, %v", content, err)
	}
}

// crashedRun starts Up in a process of its own and kills that while hosts boot.
func crashedRun(t *testing.T, ctx context.Context) {
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCrashingRun$")
	child.Env = append(os.Environ(), "PGCTRL_LAB_TEST_CRASH=1")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	err := poll(ctx, 5*time.Millisecond, func() (bool, error) {
		dirs, err := cgroups(testOptions.Name, "")
		if err != nil {
			return false, err
		}
		pids, err := processes(dirs)
		return len(pids) > 0, err
	})
	child.Process.Kill()
	child.Wait()
	if err != nil {
		t.Fatal("no host began to boot:", err)
	}
}

// TestCrashingRun is the process that TestLab kills; by itself it does nothing.
func TestCrashingRun(t *testing.T) {
	if os.Getenv("PGCTRL_LAB_TEST_CRASH") == "" {
		return
	}
	if _, err := Up(context.Background(), testOptions); err != nil {
		t.Fatal(err)
	}
	select {} // to be killed
}

func wantReach(t *testing.T, want bool, from *Host, to string) {
	t.Helper()
	_, err := from.Exec(t.Context(), "ping", "-c1", "-W1", to)
	if (err == nil) != want {
		t.Errorf("%s reaches %s: %v, want %v", from.Name, to, err == nil, want)
	}
}

func identity(t *testing.T, h *Host) string {
	t.Helper()
	content, err := h.ReadFile(t.Context(), "/etc/machine-id")
	if err != nil || len(content) < 32 {
		t.Fatalf("machine-id of %s: %q, %v", h.Name, content, err)
	}
	return string(content)
}

// leftovers looks where a lab is made of things.
func leftovers(t *testing.T, name string) {
	t.Helper()
	if names, err := labNamespaces(name); err != nil || len(names) > 0 {
		t.Error("namespaces:", names, err)
	}
	if _, err := net.InterfaceByName(machineInterface(name)); err == nil {
		t.Error("interface", machineInterface(name))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if points := mountsBelow(string(mounts), labDir(name)); err != nil || len(points) > 0 {
		t.Error("mounts:", points, err)
	}
	dirs, err := cgroups(name, "")
	if err != nil {
		t.Error(err)
	}
	for _, dir := range append(dirs, labDir(name), labDir(name)+".state.lock") {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Error("left:", dir, err)
		}
	}
	for _, path := range must(filepath.Glob("/proc/[0-9]*/cmdline")) {
		if line, _ := os.ReadFile(path); bytes.Contains(line, []byte(hostNamespace(name, ""))) {
			t.Errorf("process: %s %q", path, line)
		}
	}
}

// testWriter puts progress into the test's log.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(line []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(line), "\n"))
	return len(line), nil
}
