package agenttest

import (
	"errors"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// ScratchHost is a host whose scratch restores a test brings to their end.
type ScratchHost struct {
	Scratch agent.Scratch
	// Dir is a folder in which scratch folders can be made.
	Dir string
	// Finish ends the one that goes on; well when err is nil.
	Finish func(r observed.Recovered, err error)
	// Boot is a boot of the host, Put makes a folder that no scratch restore made, and There
	// reports whether one is there.
	Boot  func()
	Put   func(dir string)
	There func(dir string) bool
}

// ScratchConformance is the table that the fake and the real one both have to pass.
func ScratchConformance(t *testing.T, h ScratchHost) {
	ctx, s := t.Context(), h.Scratch
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	run := func() agent.ScratchRun {
		t.Helper()
		r, err := s.Run(ctx, "c")
		do("run", err)
		return r
	}
	refused := func(what string, err error, reason observed.Reason) {
		t.Helper()
		if no, is := errors.AsType[*plan.Refusal](err); !is || no.Reason != reason {
			t.Errorf("%s: %v, want %s", what, err, reason)
		}
	}
	there := func(dir string, want bool) {
		t.Helper()
		if h.There(dir) != want {
			t.Errorf("%s is there: %t", dir, !want)
		}
	}
	order := func(step string, keep bool) agent.ScratchOrder {
		return agent.ScratchOrder{
			Step: step, Dir: h.Dir + "/scratch", Bin: "/usr/lib/postgresql/15/bin", Backup: "20261126-010000F",
			Target: plan.RecoveryTarget{Type: plan.TargetLatest}, Offline: true, Keep: keep,
		}
	}
	if r := run(); r.Step != "" {
		t.Fatalf("there is none: %+v", r)
	}
	do("end nothing", s.End(ctx, "c"))
	do("keep nothing", s.Keep(ctx, "c"))
	do("remove nothing", s.Remove(ctx, "c", h.Dir+"/scratch"))

	one := order("c.verify-1", false)
	do("start", s.Start(ctx, "c", one))
	there(one.Dir, true)
	if r := run(); !r.Running || r.Step != one.Step {
		t.Fatalf("it goes on: %+v", r)
	}
	refused("start beside it", s.Start(ctx, "c", order("c.verify-2", false)), observed.BackupRunning)
	if s.Remove(ctx, "c", one.Dir) == nil {
		t.Error("its folder was removed while it goes on")
	}
	do("keep", s.Keep(ctx, "c"))
	h.Finish(observed.Recovered{LSN: "0/5000000"}, nil)
	if r := run(); r.Running || r.Err != nil || r.Step != one.Step || r.Result == nil || r.Result.LSN != "0/5000000" {
		t.Fatalf("it ended well: %+v", r)
	}
	h.Boot()
	if r := run(); r.Running || r.Step != one.Step || r.Result == nil {
		t.Fatalf("what ended well is known after a boot: %+v", r)
	}
	do("end", s.End(ctx, "c"))
	there(one.Dir, false)
	if r := run(); r.Step != "" {
		t.Fatalf("it is forgotten: %+v", r)
	}

	// One that failed says why and leaves nothing, kept or not.
	do("start", s.Start(ctx, "c", order("c.restore-1", true)))
	h.Finish(observed.Recovered{}, &plan.Refusal{Reason: observed.NoRoom, Message: "needs more"})
	r := run()
	refused("how it ended", r.Err, observed.NoRoom)
	do("end", s.End(ctx, "c"))
	there(one.Dir, false)

	// One that is kept leaves its folder, until it is removed.
	do("start", s.Start(ctx, "c", order("c.restore-2", true)))
	h.Finish(observed.Recovered{}, nil)
	do("end", s.End(ctx, "c"))
	there(one.Dir, true)
	refused("start on it", s.Start(ctx, "c", one), observed.Unmanaged)
	do("remove", s.Remove(ctx, "c", one.Dir))
	there(one.Dir, false)

	// What was under way in a boot is begun again by its own step.
	do("start", s.Start(ctx, "c", one))
	h.Boot()
	if r := run(); r.Running || r.Result != nil {
		t.Fatalf("after a boot: %+v", r)
	}
	do("start again", s.Start(ctx, "c", one))
	do("end while it goes on", s.End(ctx, "c"))
	there(one.Dir, false)

	// What nobody here made stays.
	h.Put(one.Dir)
	refused("start on a stranger", s.Start(ctx, "c", one), observed.Unmanaged)
	refused("remove a stranger", s.Remove(ctx, "c", one.Dir), observed.Unmanaged)
	there(one.Dir, true)
}
