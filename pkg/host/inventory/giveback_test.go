package inventory

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestGiveBack(t *testing.T) {
	m := newMachine(t)
	m.Record = filepath.Join(t.TempDir(), "takeover.json")
	m.debian("auto")
	m.write("/etc/haproxy/haproxy.cfg", "global\n")
	m.write("/etc/default/haproxy", "# nothing\n")
	m.shipped("haproxy", "/etc/default/haproxy", "/etc/haproxy/haproxy.cfg")
	m.start("haproxy.service", "haproxy.service")
	conf := m.read("/etc/postgresql/15/main/start.conf")
	// Killed in between and done again: what counts is how it was the first time.
	m.systemd.Before = func(op, unit string) error {
		if op == "stop" {
			return errors.New("killed")
		}
		return nil
	}
	if _, err := m.Takeover(t.Context(), wants); err == nil {
		t.Fatal("the fault did not happen")
	}
	m.systemd.Before = nil
	for range 2 {
		if _, err := m.Takeover(t.Context(), Wants{PostgresPorts: []int{5432}, HAProxy: true}); err != nil {
			t.Fatal(err)
		}
	}
	m.systemd.Acts()
	did, err := m.GiveBack(t.Context())
	if err != nil || len(did) != 2 {
		t.Fatalf("%v, %v", did, err)
	}
	if got := m.read("/etc/postgresql/15/main/start.conf"); got != conf {
		t.Errorf("start.conf is %q", got)
	}
	for _, unit := range []string{mainUnit, "haproxy.service"} {
		if st, _ := m.systemd.Status(t.Context(), unit); !st.Active() || !st.Enabled() {
			t.Errorf("%s: %+v", unit, st)
		}
	}
	m.systemd.Acts()
	if did, err := m.GiveBack(t.Context()); err != nil || len(did) > 0 || len(m.systemd.Acts()) > 0 {
		t.Errorf("a second time: %v, %v", did, err)
	}
}

// TestGiveBackLeavesWhatIsSomebodysOwn: a file that was changed since stays, and a
// service that had been off before stays off.
func TestGiveBackLeavesWhatIsSomebodysOwn(t *testing.T) {
	m := newMachine(t)
	m.Record = filepath.Join(t.TempDir(), "takeover.json")
	m.debian("auto")
	if _, err := m.Takeover(t.Context(), wants); err != nil {
		t.Fatal(err)
	}
	m.write("/etc/postgresql/15/main/start.conf", "manual\n")
	if _, err := m.GiveBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.read("/etc/postgresql/15/main/start.conf"); !strings.HasPrefix(got, "manual") {
		t.Errorf("start.conf is %q", got)
	}
}

// TestGiveBackAdopted: a service that was used and not stopped is as it was found.
func TestGiveBackAdopted(t *testing.T) {
	const unit = "dnsmasq.service"
	for name, was := range map[string]bool{"it ran": true, "it did not": false} {
		m := newMachine(t)
		m.Record = filepath.Join(t.TempDir(), "takeover.json")
		m.start(unit, unit)
		if !was {
			for _, f := range []func(context.Context, string) error{m.systemd.Stop, m.systemd.Disable} {
				if err := f(t.Context(), unit); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 2 { // the second time it runs, whatever was before
			if _, err := m.Takeover(t.Context(), Wants{Adopt: unit}); err != nil {
				t.Fatal(err)
			}
			for _, f := range []func(context.Context, string) error{m.systemd.Start, m.systemd.Enable} {
				if err := f(t.Context(), unit); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := m.GiveBack(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st, _ := m.systemd.Status(t.Context(), unit); st.Active() != was || st.Enabled() != was {
			t.Errorf("%s: %+v", name, st)
		}
	}
}
