package address

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestMain hands over to this one in a process that has two capabilities and no more.
func TestTwoCapabilitiesSuffice(t *testing.T) {
	if os.Getenv("PGCTRL_TEST_FEW_CAPABILITIES") != "" {
		withFewCapabilities(t)
		return
	}
	t.Parallel()
	w := newWorld(t, v4)
	cmd := exec.Command("nsenter", "--net="+w.Path("own"), "setpriv", "--bounding-set=-all,+net_admin,+net_raw", "--inh-caps=-all",
		os.Args[0], "-test.run=^TestTwoCapabilitiesSuffice$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), "PGCTRL_TEST_FEW_CAPABILITIES=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "capabilities 0000000000003000") {
		t.Errorf("%v: %s", err, out)
	}
}

func withFewCapabilities(t *testing.T) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "CapEff:\t")
	t.Logf("capabilities %s", after[:16])
	for _, a := range []plan.Address{v4, v6} {
		w := &world{m: New(Options{}), a: a}
		w.hold(t, time.Minute)
		if err := w.m.Announce(t.Context(), a); err != nil {
			t.Error(err)
		}
		if _, err := w.m.Probe(t.Context(), a, 10*time.Millisecond); err != nil {
			t.Error(err)
		}
		l, err := net.Listen("tcp", net.JoinHostPort(w.ip(), "5433"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if found, left := w.m.endConnections(mustParse(t, a), time.Time{}); len(found) == 0 || len(left) > 0 {
			t.Error("no connection was ended")
		}
		w.drop(t)
		w.m.Close()
	}
}
