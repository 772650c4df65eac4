package pgbackrest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// fakeSystemd has one unit.
type fakeSystemd struct {
	state   systemd.State
	started []systemd.Transient
	did     []string
}

func (f *fakeSystemd) StartTransient(_ context.Context, t systemd.Transient) error {
	f.started = append(f.started, t)
	f.state = systemd.State{LoadState: "loaded", ActiveState: "active", SubState: "running", Description: t.Description}
	return nil
}
func (f *fakeSystemd) Status(context.Context, string) (systemd.State, error) { return f.state, nil }
func (f *fakeSystemd) Stop(context.Context, string) error {
	f.did = append(f.did, "stop")
	return nil
}
func (f *fakeSystemd) Forget(context.Context, string)     { f.did = append(f.did, "forget") }
func (f *fakeSystemd) Feed(context.Context, string) error { return nil }
func (f *fakeSystemd) Journal(context.Context, string, int) string {
	return "2026-11-26 19:01:50.686 P00  ERROR: [050]: unable to acquire lock on file 'x'"
}

func TestBackupUnit(t *testing.T) {
	f := &fakeSystemd{state: systemd.State{LoadState: systemd.NotFound, ActiveState: "inactive", Description: "pgctrl-backup@c.service"}}
	d, ctx := New(Options{Node: "pg1", Systemd: f}), t.Context()
	if r, err := d.Run(ctx, "c"); err != nil || r.Step != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "a b", "a;b", "ä", "a\nb"} {
		if d.Start(ctx, "c", Order{Step: bad, Type: plan.BackupFull}) == nil {
			t.Errorf("step %q was taken", bad)
		}
	}
	if err := d.Start(ctx, "c", Order{Step: "backup-x-1", Type: plan.BackupDifferential, From: "c-1"}); err != nil {
		t.Fatal(err)
	}
	u := f.started[0]
	for _, want := range []string{"--config=/etc/pgbackrest/conf.d/c.conf", "--stanza=c", "--type=diff", "--annotation=pgctrl-step=backup-x-1", "--annotation=pgctrl-from=c-1", "backup"} {
		if !slices.Contains(u.Args, want) {
			t.Errorf("no %s in %q", want, u.Args)
		}
	}
	if slices.Contains(u.Args, "--no-expire-auto") {
		t.Errorf("none is expired: %q", u.Args)
	}
	if u.User != "postgres" || u.Watchdog != plan.BackupLost || u.StopWithin != plan.BackupStop || u.Unit != plan.BackupUnit("c") {
		t.Errorf("%+v", u)
	}
	if r, err := d.Run(ctx, "c"); err != nil || r.Step != "backup-x-1" || !r.Running {
		t.Fatalf("%+v, %v", r, err)
	}
	// One that runs is not begun over.
	var no *plan.Refusal
	if err := d.Start(ctx, "c", Order{Step: "backup-x-2", Type: plan.BackupFull}); !errors.As(err, &no) || no.Reason != observed.BackupRunning || len(f.started) != 1 {
		t.Fatal(err)
	}
	f.state.SubState = "exited"
	if r, err := d.Run(ctx, "c"); err != nil || r.Running || r.Err != nil || r.Step != "backup-x-1" {
		t.Fatalf("%+v, %v", r, err)
	}
	for result, reason := range map[string]observed.Reason{"exit-code": observed.BackupRunning, "watchdog": observed.AgentCutOff, "signal": observed.BackupFailed} {
		f.state.ActiveState, f.state.Result, f.state.ExitStatus = "failed", result, 50
		r, err := d.Run(ctx, "c")
		if err != nil || r.Running || !errors.As(r.Err, &no) || no.Reason != reason {
			t.Errorf("%s: %+v, %v", result, r, err)
		}
	}
	// What ended is forgotten before the next one begins.
	if err := d.Start(ctx, "c", Order{Step: "backup-x-3", Type: plan.BackupFull, Keep: true}); err != nil || !slices.Equal(f.did, []string{"stop", "forget"}) {
		t.Fatal(err, f.did)
	}
	if u := f.started[1]; !slices.Contains(u.Args, "--no-expire-auto") {
		t.Errorf("older ones may be expired: %q", u.Args)
	}
}

// TestCutOffIsKept: whoever waits for plan.BackupCutOff finds nothing running.
func TestCutOffIsKept(t *testing.T) {
	if sum := plan.BackupLost + plan.BackupStop + plan.FreshFor; sum >= plan.BackupCutOff {
		t.Errorf("it may take %s", sum)
	}
}
