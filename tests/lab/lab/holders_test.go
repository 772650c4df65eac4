package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/configs"
	"github.com/pgctrl/pgctrl/tests/probe/holders"
)

// TestDriversOnRealHosts: the driver of systemd does what its fake does, that of virtual
// addresses works with the agent's hardening and two capabilities, and the observer of
// holders follows real hosts through a power cut and a boot.
func TestDriversOnRealHosts(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute) // the image may have to be built
	defer cancel()
	l, err := Up(ctx, Options{Name: "labaddr", Subnet: "10.10.98.0/24", Hosts: []string{"pg1", "pg2"}, Fresh: true, Log: testWriter{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Down(context.Background(), "labaddr", true); err != nil {
			t.Error(err)
		}
	})
	pg1, pg2 := l.Host("pg1"), l.Host("pg2")
	t.Run("systemd is as its fake", func(t *testing.T) { systemdDriver(t, ctx, pg2) })
	t.Run("two capabilities suffice", func(t *testing.T) { hardened(t, ctx, pg1) })
	t.Run("the observer follows hosts", func(t *testing.T) { observe(t, ctx, pg1, pg2) })
}

// installTest puts the tests of a driver onto a host, as /usr/local/bin/<driver>.test.
func installTest(t *testing.T, ctx context.Context, h *Host, driver string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), driver+".test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "github.com/pgctrl/pgctrl/pkg/host/"+driver).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := h.CopyFile(ctx, binary, "/usr/local/bin/"+driver+".test", 0o755); err != nil {
		t.Fatal(err)
	}
}

// systemdDriver holds the driver to the conformance suite of its fake, and to the
// signals it lives on, against a real systemd.
func systemdDriver(t *testing.T, ctx context.Context, h *Host) {
	installTest(t, ctx, h, "systemd")
	for test, times := range map[string]int{"TestRealConforms": 4, "TestRealSignals": 1, "TestRealTransient": 1} {
		out, err := h.Exec(ctx, "env", "PGCTRL_REAL_SYSTEMD=1", "/usr/local/bin/systemd.test", "-test.run=^"+test+"$", fmt.Sprint("-test.count=", times), "-test.short", "-test.v")
		if err != nil || strings.Count(out, "--- PASS: "+test+" ") != times {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// hardened runs the driver's own test as the agent's unit would run it.
func hardened(t *testing.T, ctx context.Context, h *Host) {
	installTest(t, ctx, h, "address")
	unit, err := configs.Unit("pgagent.service")
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{"systemd-run", "--wait", "--pipe", "-q", "-p", "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW", "-E", "PGCTRL_TEST_FEW_CAPABILITIES=1"}
	for line := range strings.Lines(string(unit)) {
		for _, key := range []string{"Protect", "Lock", "Restrict", "Private", "NoNew", "System"} {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, key) && strings.HasSuffix(line, "=true") {
				argv = append(argv, "-p", line)
			}
		}
	}
	for _, a := range [][]string{{"10.77.0.1/24"}, {"fd77::1/64", "nodad"}} { // the networks of that test
		if _, err := h.Exec(ctx, append([]string{"ip", "address", "add", "dev", "eth0"}, a...)...); err != nil {
			t.Fatal(err)
		}
	}
	out, err := h.Exec(ctx, append(argv, "/usr/local/bin/address.test", "-test.run=^TestTwoCapabilitiesSuffice$", "-test.v")...)
	if err != nil || !strings.Contains(out, "capabilities 0000000000003000") {
		t.Errorf("%v: %s", err, out)
	}
}

// observe plants on real hosts what the observer must see.
func observe(t *testing.T, ctx context.Context, a, b *Host) {
	vip := netip.MustParseAddr("10.10.98.9")
	o, err := holders.Observe(vip, holders.Host{Name: a.Name, Namespace: a.Namespace()}, holders.Host{Name: b.Name, Namespace: b.Namespace()})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Stop()
	do := func(h *Host, verb string, more ...string) {
		t.Helper()
		if _, err := h.Exec(ctx, append([]string{"ip", "address", verb, vip.String() + "/32", "dev", "eth0"}, more...)...); err != nil {
			t.Fatal(err)
		}
	}
	do(a, "add")
	do(a, "del")
	do(b, "add") // a move
	do(a, "add") // a second holder
	do(a, "del")
	if err := b.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Boot(ctx); err != nil { // it boots without the address
		t.Fatal(err)
	}
	if now := o.Holders(); len(now) != 0 {
		t.Errorf("after the boot %v have it", now)
	}
	do(b, "add") // what a reboot of the holder looks like
	time.Sleep(50 * time.Millisecond)
	tl := o.Stop()
	anyTime := holders.Move{After: tl.Start, Before: tl.End}
	again := anyTime
	again.Host = b.Name
	r := tl.Judge(anyTime)
	if len(r.Doubles) != 1 || len(r.Flaps) != 1 || r.Moves != 1 || len(r.Blind) != 0 {
		t.Errorf("want one second holder, one flap, one move; got %s\n%+v", r, tl.Changes)
	}
	if r := tl.Judge(anyTime, again); len(r.Flaps) != 0 || r.Moves != 2 {
		t.Errorf("with the reboot asked for: %s", r)
	}
}
