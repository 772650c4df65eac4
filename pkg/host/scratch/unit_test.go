package scratch

import (
	"errors"
	"slices"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestOfflineRecoveryReachesNothing: neither network nor repository nor another PostgreSQL, and
// it is never begun where that can't be had.
func TestOfflineRecoveryReachesNothing(t *testing.T) {
	hidden, fail := []string{"/var/lib/pgbackrest/c-1", "/data/c"}, error(nil)
	d := New(Options{Node: "pg1", Program: "/usr/bin/pgagent", Hidden: func(string) ([]string, error) { return hidden, fail }})
	o := Order{Step: "c.verify-1", Dir: "/data/c.verify", Bin: "/usr/lib/postgresql/15/bin", Backup: "20261126-010000F", Target: Target{Type: "latest"}, Offline: true}
	u, err := d.recoverUnit("c", o)
	if err != nil || u.Sandbox == nil || !slices.Equal(u.Sandbox.Writable, []string{o.Dir}) {
		t.Fatalf("%+v, %v", u, err)
	}
	for _, want := range []string{"-/var/lib/pgbackrest/c-1", "-/data/c", "-/etc/pgbackrest", "-/var/spool/pgbackrest", "-/run/postgresql", "-/run/pgctrl"} {
		if !slices.Contains(u.Sandbox.Hidden, want) {
			t.Errorf("%s can be seen", want)
		}
	}
	if u.User != "postgres" || u.Watchdog != plan.BackupLost || u.StopWithin != plan.BackupStop || u.Weight != weight || u.Unit != plan.ScratchUnit("c") {
		t.Errorf("%+v", u)
	}
	if fetch := d.fetchUnit("c", o); fetch.Sandbox != nil || fetch.Watchdog != plan.BackupLost || fetch.Unit != plan.ScratchFetchUnit("c") {
		t.Errorf("%+v", fetch)
	}
	hidden = []string{"/data"}
	if _, err := d.recoverUnit("c", o); err == nil {
		t.Error("the folder is in what it must not see")
	}
	fail = errors.New("no settings")
	if _, err := d.recoverUnit("c", o); err == nil {
		t.Error("what it must not see is not known")
	}
	o.Offline = false
	if u, err := d.recoverUnit("c", o); err != nil || u.Sandbox != nil {
		t.Errorf("%+v, %v", u, err)
	}
}
