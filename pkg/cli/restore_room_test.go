package cli

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/agent"
)

func TestRoomOfTheNearestFolder(t *testing.T) {
	said := "# TYPE " + agent.RootMetric + " gauge\n" + agent.RootMetric + "{folder=\"/var/lib/postgresql\"} 5.36870912e+08\n" +
		agent.RootMetric + "{folder=\"/var/lib/postgresql/15\"} 100\n" + agent.RootMetric + "{folder=\"/var/lib/postgresql/1\"} 7\n"
	for data, want := range map[string]uint64{"/var/lib/postgresql/15/c": 100, "/var/lib/postgresql/17/c": 512 << 20} {
		if got, err := roomIn(strings.NewReader(said), data); err != nil || got != want {
			t.Errorf("%s: %d, %v", data, got, err)
		}
	}
	for _, data := range []string{"/data/c", "/var/lib/postgresql-2/c"} {
		if got, err := roomIn(strings.NewReader(said), data); err == nil {
			t.Errorf("%s has %d", data, got)
		}
	}
	if _, err := roomIn(strings.NewReader(agent.RootMetric+"{folder=\"/d\"} x\n"), "/d/c"); err == nil {
		t.Error("x was taken for a number")
	}
}
