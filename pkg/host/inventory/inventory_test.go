package inventory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/pkg/host/systemd/systemdtest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// machine is a host in a folder.
type machine struct {
	*Host
	t       *testing.T
	systemd *systemdtest.Fake
	answers map[string]string // by a part of the command line
	ran     []string
}

func newMachine(t *testing.T) *machine {
	var mu sync.Mutex
	m := &machine{t: t, systemd: &systemdtest.Fake{}, answers: map[string]string{}}
	m.Host = &Host{Root: t.TempDir(), Systemd: m.systemd, Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
		line := name + " " + strings.Join(args, " ")
		mu.Lock()
		defer mu.Unlock()
		m.ran = append(m.ran, line)
		for part, answer := range m.answers {
			if strings.Contains(line, part) {
				if words, failed := strings.CutPrefix(answer, "FAIL "); failed {
					return []byte(words), errors.New("exit status 2")
				}
				return []byte(answer), nil
			}
		}
		return nil, nil
	}}
	return m
}

func (m *machine) write(path, content string) {
	m.t.Helper()
	p := m.path(path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o600)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(path string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.path(path))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// start adds a unit from a package, and starts and enables it as Debian does.
func (m *machine) start(template, unit string) {
	m.t.Helper()
	m.systemd.AddTemplate(template)
	if err := errors.Join(m.systemd.Enable(m.t.Context(), unit), m.systemd.Start(m.t.Context(), unit)); err != nil {
		m.t.Fatal(err)
	}
	m.systemd.Acts()
}

func TestPrograms(t *testing.T) {
	m := newMachine(t)
	for _, bin := range []string{"/usr/bin/patroni", "/usr/sbin/haproxy", "/usr/sbin/dnsmasq", "/usr/lib/postgresql/17/bin/postgres", "/usr/lib/postgresql/9/bin/postgres", "/usr/lib/postgresql/9.6/bin/postgres"} {
		m.write(bin, "")
	}
	m.answers = map[string]string{
		"patroni --version": "patroni 3.0.2\n",
		"haproxy -v":        "HAProxy version 2.6.12-1+deb12u4 2025/10/17 - https://haproxy.org/\nStatus: ...",
		"dnsmasq --version": "FAIL something is wrong",
		"17/bin/postgres":   "postgres (PostgreSQL) 17.6 (Debian 17.6-0+deb13u1)",
		"9/bin/postgres":    "postgres (PostgreSQL) 9.0",
	}
	for range 2 {
		versions, majors, err := m.Programs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"patroni": "3.0.2", "haproxy": "2.6.12", "dnsmasq": "unknown", "postgresql-17": "17.6", "postgresql-9": "9.0"}
		if d := cmp.Diff(want, versions); d != "" {
			t.Error(d)
		}
		if !cmp.Equal(majors, []int{9, 17}) {
			t.Errorf("majors %v", majors)
		}
	}
	if len(m.ran) != 6 { // five, and the one that failed again
		t.Errorf("asked %d times: %v", len(m.ran), m.ran)
	}
	m.answers["haproxy -v"] = "HAProxy version 3.0.11-1"
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(m.path("/usr/sbin/haproxy"), later, later); err != nil {
		t.Fatal(err)
	}
	if v := m.Version(t.Context(), "haproxy"); v != "3.0.11" {
		t.Errorf("after an upgrade: %s", v)
	}
	if v := m.Version(t.Context(), "pgbackrest"); v != "" {
		t.Errorf("not installed: %q", v)
	}
}

func TestMissing(t *testing.T) {
	m := newMachine(t)
	m.write("/usr/sbin/haproxy", "")
	for name, want := range map[string]string{
		"haproxy": "", "dnsmasq": "apt-get install -y dnsmasq", "postgresql-15": "apt-get install -y postgresql-15",
	} {
		install, missing := m.Missing(name)
		if install != want || missing != (want != "") {
			t.Errorf("%s: %q, %v", name, install, missing)
		}
	}
	if m.Require("haproxy") != nil {
		t.Error("haproxy is there")
	}
	var r *plan.Refusal
	if err := m.Require("patroni"); !errors.As(err, &r) || r.Reason != observed.MissingProgram || r.Next != "apt-get install -y patroni" {
		t.Errorf("%+v", err)
	}
}

func TestMachineID(t *testing.T) {
	m := newMachine(t)
	if _, err := m.MachineID(); err == nil {
		t.Error("no file")
	}
	m.write("/etc/machine-id", "uninitialized\n")
	if _, err := m.MachineID(); err == nil {
		t.Error("uninitialised")
	}
	m.write("/etc/machine-id", "abc\n")
	if id, err := m.MachineID(); err != nil || id != "abc" {
		t.Errorf("%q, %v", id, err)
	}
}

// The real /proc of the machine that runs the test.
func TestListeningForReal(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		l, err := net.Listen(network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
		if err != nil {
			t.Logf("%s: %v", network, err) // no IPv6 here
			continue
		}
		addr := l.Addr().(*net.TCPAddr)
		got, err := Listening(addr.Port)
		if err != nil || len(got) != 1 || got[0].PID != os.Getpid() || got[0].Address != addr.AddrPort() || got[0].Command == "" {
			t.Errorf("%s %v: %v, %v", network, addr, got, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := Listening(addr.Port); err != nil || len(got) != 0 {
			t.Errorf("closed: %v, %v", got, err)
		}
	}
}

const procHeader = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// listen makes a process of the machine hold a port.
func (m *machine) listen(port, pid int, command, unit string) {
	m.t.Helper()
	inode := 1000 + port
	table := procHeader
	if exists(m.path("/proc/net/tcp")) {
		table = m.read("/proc/net/tcp")
	}
	m.write("/proc/net/tcp", table+fmt.Sprintf("   0: 0100007F:%04X 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 %d 1 0 100 0 0 10 0\n", port, inode))
	p := fmt.Sprintf("/proc/%d", pid)
	m.write(p+"/comm", command+"\n")
	m.write(p+"/cgroup", "0::/system.slice/system-x.slice/"+unit+"\n")
	if err := errors.Join(os.MkdirAll(m.path(p+"/fd"), 0o755), os.Symlink(fmt.Sprintf("socket:[%d]", inode), m.path(fmt.Sprintf("%s/fd/%d", p, port)))); err != nil {
		m.t.Fatal(err)
	}
}

func TestListening(t *testing.T) {
	m := newMachine(t)
	m.listen(5432, 73, "postgres", "postgresql@15-main.service")
	m.listen(6432, 42, "pgbouncer", "pgbouncer.service")
	got, err := m.Listening(5432, 1)
	if err != nil || len(got) != 1 || got[0].String() != "postgres (pid 73, postgresql@15-main.service) on 127.0.0.1:5432" {
		t.Errorf("%v, %v", got, err)
	}
	m.write("/proc/net/tcp6", procHeader+"   0: 00000000000000000000000001000000:1538 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 7 1\n")
	if got, err := m.Listening(5432); err != nil || len(got) != 2 || got[1].Address.String() != "[::1]:5432" || got[1].PID != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"0100007F:1538":                         "127.0.0.1:5432",
		"00000000:0050":                         "0.0.0.0:80",
		"0000000000000000FFFF00000100007F:1538": "127.0.0.1:5432",
		"zz:1":                                  "", "0100007F": "", "01:1": "", "0100007F:123456": "", "0100007F0100007F:1": "",
	} {
		got, err := parseAddress(in)
		if want == "" != (err != nil) || err == nil && got.String() != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
}

func TestCheck(t *testing.T) {
	m := newMachine(t)
	m.write("/etc/machine-id", "abc\n")
	m.write("/usr/sbin/haproxy", "")
	m.answers["haproxy -v"] = "HAProxy version 2.6.12"
	m.listen(5433, 1, "nginx", "nginx.service")
	m.listen(5434, 2, "haproxy", "haproxy@c.service")
	m.listen(5431, 3, "postgres", "postgresql@15-main.service")
	got := map[string]CheckResult{}
	for _, r := range m.Check(t.Context(), 5431, 5432, 5433, 5434) {
		got[r.Name] = r
	}
	for name, want := range map[string]CheckResult{
		"machine id": {OK: true, Detail: "abc"},
		"systemd":    {OK: true, Detail: "answers"},
		"haproxy":    {OK: true, Detail: "2.6.12"},
		"patroni":    {Detail: "not installed", Next: "apt-get install -y patroni"},
		"pgbackrest": {Optional: true, Detail: "not installed", Next: "apt-get install -y pgbackrest"},
		"postgresql": {Detail: "not installed", Next: "apt-get install -y postgresql"},
		"port 5432":  {OK: true, Detail: "free"},
		"port 5431":  {Optional: true, Detail: "held by postgres (pid 3, postgresql@15-main.service) on 127.0.0.1:5431, which is stopped when a cluster needs the port, if nobody uses it"},
		"port 5433":  {Detail: "held by nginx (pid 1, nginx.service) on 127.0.0.1:5433"},
		"port 5434":  {OK: true, Detail: "ours: haproxy (pid 2, haproxy@c.service) on 127.0.0.1:5434"},
	} {
		want.Name = name
		if d := cmp.Diff(want, got[name]); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if _, ok := got["clock"]; !ok {
		t.Error("the clock was not looked at")
	}
}
