package systemd_test

import (
	"os"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
)

// TestRealTransient runs in the lab as TestRealConforms does: a service without a file lives
// while it is fed by somebody else than itself, and how it ended can be read until it is
// forgotten.
func TestRealTransient(t *testing.T) {
	if os.Getenv("PGCTRL_REAL_SYSTEMD") == "" {
		t.Skip("PGCTRL_REAL_SYSTEMD is not set")
	}
	ctx := t.Context()
	m := systemd.New(systemd.Options{})
	defer m.Close()
	const unit = "pgctrl-transient@a.service"
	state := func() systemd.State {
		s, err := m.Status(ctx, unit)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	until := func(what string, is func(systemd.State) bool) {
		for tick := time.NewTicker(50 * time.Millisecond); !is(state()); {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%s: %+v", what, state())
			}
		}
	}
	start := func(args ...string) {
		m.Forget(ctx, unit)
		if err := m.StartTransient(ctx, systemd.Transient{
			Unit: unit, Description: "for step 1", User: "nobody", Args: args, Nice: 5, IOPriority: 7, Weight: 10,
			Watchdog: time.Second, StopWithin: time.Second,
		}); err != nil {
			t.Fatal(err)
		}
	}
	start("/bin/sleep", "1000")
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		if err := m.Feed(ctx, unit); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	if s := state(); s.ActiveState != "active" || s.SubState != "running" || s.Description != "for step 1" {
		t.Fatalf("fed: %+v", s)
	}
	until("not fed", func(s systemd.State) bool { return s.ActiveState == "failed" && s.Result == "watchdog" })

	// Now and then it has ended before systemd has seen it run.
	for range 20 {
		start("/bin/sh", "-c", "exit 50")
		until("its exit code", func(s systemd.State) bool { return s.Result == "exit-code" && s.ExitStatus == 50 })
	}
	m.Forget(ctx, unit)
	if err := m.StartTransient(ctx, systemd.Transient{
		Unit: unit, Args: []string{"/bin/sleep", "1000"}, Weight: 100, StopWithin: time.Second,
		RuntimeMax: time.Second, MemoryMax: 256 << 20, TasksMax: 64, Whole: true, Privileged: true,
	}); err != nil {
		t.Fatal(err)
	}
	until("its time is over", func(s systemd.State) bool { return s.ActiveState == "failed" && s.Result == "timeout" })
	start("/bin/true")
	until("it went well", func(s systemd.State) bool { return s.ActiveState == "active" && s.SubState == "exited" })
	if err := m.Stop(ctx, unit); err != nil {
		t.Fatal(err)
	}
	until("gone", func(s systemd.State) bool { return !s.Exists() })
	if err := m.StartTransient(ctx, systemd.Transient{Unit: unit, User: "nobody", Args: []string{"/no/such/program"}}); err == nil {
		t.Fatal("a program that is not there was started")
	}
	m.Forget(ctx, unit)
}
