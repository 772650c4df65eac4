package systemd_test

import (
	"errors"
	"os"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/host/systemd/systemdtest"
)

func TestFakeConforms(t *testing.T) {
	systemdtest.Conformance(t, &systemdtest.Fake{OnStart: func(unit string) error {
		if unit == systemdtest.BadUnit {
			return errors.New(systemdtest.BadWords)
		}
		return nil
	}})
}

// TestRealConforms runs in the lab: `go test -c` and run it inside a host with
// PGCTRL_REAL_SYSTEMD=1. It changes the systemd it finds, so it never runs by itself.
func TestRealConforms(t *testing.T) {
	if os.Getenv("PGCTRL_REAL_SYSTEMD") == "" {
		t.Skip("PGCTRL_REAL_SYSTEMD is not set")
	}
	m := systemd.New(systemd.Options{})
	defer m.Close()
	defer func() {
		for _, u := range []string{systemdtest.GoodUnit, systemdtest.BadUnit} {
			if err := errors.Join(m.Stop(t.Context(), u), m.Disable(t.Context(), u)); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(os.RemoveAll(systemd.DefaultUnitDir+"/"+systemdtest.TemplateName), m.DaemonReload(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	if err := m.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	systemdtest.Conformance(t, m)
}

func TestState(t *testing.T) {
	for _, c := range []struct {
		s                       systemd.State
		exists, active, enabled bool
	}{
		{systemd.State{}, false, false, false},
		{systemd.State{LoadState: "not-found", ActiveState: "inactive"}, false, false, false},
		{systemd.State{LoadState: "loaded", ActiveState: "activating", UnitFileState: "enabled-runtime"}, true, false, false},
		{systemd.State{LoadState: "loaded", ActiveState: "reloading", UnitFileState: "static"}, true, true, true},
	} {
		if c.s.Exists() != c.exists || c.s.Active() != c.active || c.s.Enabled() != c.enabled {
			t.Errorf("%+v", c)
		}
	}
	if !(systemd.State{LoadState: "loaded", UnitFileState: "masked-runtime"}).Masked() {
		t.Error("masked until the next boot is masked")
	}
}

// Without a systemd every call says so instead of hanging.
func TestNoSystemd(t *testing.T) {
	if _, err := os.Stat("/run/systemd/private"); err == nil {
		t.Skip("there is a systemd here")
	}
	if _, err := os.Stat("/run/dbus/system_bus_socket"); err == nil {
		t.Skip("there is a bus here")
	}
	m := systemd.New(systemd.Options{})
	defer m.Close()
	if err := m.Ping(t.Context()); err == nil {
		t.Error("no systemd answered")
	}
}
