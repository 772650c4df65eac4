package operations

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// rig is one operation in a world of three members that a test changes.
type rig struct {
	t       *testing.T
	op      Operation
	w       World
	away    map[string]bool
	results map[string]observed.StepResult
	steps   map[string]plan.Step
	asked   int
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newRig(t *testing.T) *rig {
	r := &rig{t: t, away: map[string]bool{}, results: map[string]observed.StepResult{}, steps: map[string]plan.Step{}}
	r.op = NewBackup(Asked{Cluster: "c", UID: "U", Store: "S", By: BySchedule, At: noon}, plan.BackupFull)
	r.w = World{
		Now: noon, Store: "S", UID: "U", Leader: "c-1", Epoch: 10, Confirmed: true, ConfirmedIn: 10,
		Node:   func(m string) string { return "n" + m[2:] },
		Schema: func(n string) (int, bool) { return plan.Schema, !r.away[n] },
		Result: func(n, id string) (observed.StepResult, bool) { res, ok := r.results[n+"/"+id]; return res, ok },
	}
	return r
}

// look advances until nothing changes, as servers do, each time from the stored form.
func (r *rig) look() {
	r.t.Helper()
	for range 10 {
		was := string(observed.Encode(r.op))
		c := Advance(&r.op, r.w, true)
		for _, a := range c.Ask {
			if _, twice := r.steps[a.Node+"/"+a.ID]; twice {
				r.t.Fatalf("step %s is asked twice", a.ID)
			}
			r.steps[a.Node+"/"+a.ID] = a.Step
			r.asked++
		}
		for _, a := range c.Forget {
			delete(r.steps, a.Node+"/"+a.ID)
			if !a.Withdraw {
				delete(r.results, a.Node+"/"+a.ID)
			}
		}
		if string(observed.Encode(r.op)) == was {
			return
		}
	}
	r.t.Fatal("it never comes to rest")
}

// step is the one that is asked now.
func (r *rig) step() (where string, s plan.Step) {
	r.t.Helper()
	if len(r.steps) != 1 {
		r.t.Fatalf("%d steps are asked: %v", len(r.steps), r.steps)
	}
	for where, s = range r.steps {
	}
	return where, s
}

func (r *rig) answer(res observed.StepResult) {
	r.t.Helper()
	where, _ := r.step()
	r.results[where] = res
	r.look()
}

func (r *rig) is(s State) {
	r.t.Helper()
	if r.op.State != s {
		r.t.Fatalf("state %s, want %s: %s", r.op.State, s, observed.Encode(r.op))
	}
	if s.Final() && len(r.steps) > 0 {
		r.t.Fatalf("it has ended, and steps are left: %v", r.steps)
	}
}

var done = observed.StepResult{State: observed.StepDone, Label: "L"}

func TestPassesItsPhases(t *testing.T) {
	r := newRig(t)
	r.look()
	where, s := r.step()
	if where != "n1/c."+r.op.ID+"-1" || s.Act != plan.ActStanza || s.Epoch != 10 || s.Member != "c-1" {
		t.Fatalf("first step %s %+v", where, s)
	}
	r.answer(observed.StepResult{State: observed.StepDone})
	if _, s = r.step(); s.Act != plan.ActBackup || s.Backup != plan.BackupFull {
		t.Fatalf("second step %+v", s)
	}
	r.answer(observed.StepResult{State: observed.StepAccepted})
	r.is(Running)
	r.answer(done)
	r.is(Done)
	if r.op.Label != "L" || r.op.Ended.IsZero() {
		t.Errorf("at the end %+v", r.op)
	}
}

func TestWaitsForItsTurn(t *testing.T) {
	r := newRig(t)
	Advance(&r.op, r.w, false)
	r.is(Waiting)
	if r.op.Reason != observed.OperationUnderWay {
		t.Errorf("reason %s", r.op.Reason)
	}
	r.w.Holds = &observed.Condition{Reason: observed.PatroniPaused}
	r.look()
	r.is(Waiting)
	r.w.Holds, r.w.Confirmed = nil, false
	r.look()
	r.is(Waiting)
	r.w.Confirmed = true
	r.look()
	r.is(Running)
	if r.op.Reason != "" {
		t.Errorf("it still says %s", r.op.Reason)
	}
}

// TestFollowsTheLeader: a failover says nothing against a backup; it begins again on the
// new primary, and not before that is confirmed.
func TestFollowsTheLeader(t *testing.T) {
	r := newRig(t)
	r.look()
	r.w.Leader, r.w.Epoch, r.w.Confirmed = "c-2", 20, false
	r.answer(observed.StepResult{State: observed.StepRefused, Reason: observed.LeaderChanged, Message: "c-2 leads"})
	if len(r.steps) != 0 {
		t.Fatal("a step was asked although nobody is confirmed")
	}
	r.w.Now = noon.Add(time.Minute)
	r.look()
	r.is(Running)
	r.w.Confirmed = true
	r.look()
	if where, s := r.step(); where != "n2/c."+r.op.ID+"-2" || s.Epoch != 20 {
		t.Fatalf("after the failover %s %+v", where, s)
	}
	if r.op.Phases[0].Failures != 0 {
		t.Error("a failover counts as a failure")
	}
}

func TestFailsAfterItsTries(t *testing.T) {
	r := newRig(t)
	bad := observed.StepResult{State: observed.StepFailed, Reason: observed.ApplyFailed, Message: "no such bucket.", Next: "do this"}
	for i := range Tries {
		r.look()
		r.is(Running)
		r.answer(bad)
		r.w.Now = r.w.Now.Add(RetryFirst * time.Duration(1+2*i))
	}
	r.look()
	r.is(Failed)
	if r.op.Message != "stanza on n1: no such bucket" || r.op.Next != "do this" || r.asked != Tries {
		t.Errorf("%d steps; %s; next %s", r.asked, r.op.Message, r.op.Next)
	}
}

// TestALostAgent: its step is given up only when the agent itself must have stopped, and not
// when it came back meanwhile.
func TestALostAgent(t *testing.T) {
	r := newRig(t)
	r.look()
	r.answer(observed.StepResult{State: observed.StepAccepted})
	r.away["n1"] = true
	r.look()
	r.w.Now = noon.Add(LostFor - time.Second)
	r.look()
	r.step()
	r.away["n1"] = false
	r.look()
	r.away["n1"] = true
	r.w.Now = noon.Add(LostFor + time.Second)
	r.look()
	r.step()
	r.w.Leader, r.w.Epoch = "c-3", 30
	r.w.Now = r.w.Now.Add(LostFor)
	r.look()
	r.w.Now = r.w.Now.Add(time.Minute)
	r.look()
	if where, _ := r.step(); where[:2] != "n3" {
		t.Errorf("asked of %s", where)
	}
}

// TestAStepThatNobodyAnswers: the agent is there and says nothing, as when it never saw the step.
func TestAStepThatNobodyAnswers(t *testing.T) {
	r := newRig(t)
	r.look()
	r.w.Now = noon.Add(AnswerWithin - time.Second)
	r.look()
	r.step()
	r.w.Now = noon.Add(AnswerWithin)
	r.look()
	r.w.Now = r.w.Now.Add(time.Minute)
	r.look()
	if where, _ := r.step(); where != "n1/c."+r.op.ID+"-2" || r.op.Phases[0].Failures != 0 {
		t.Errorf("asked %s, %+v", where, r.op.Phases[0])
	}
	// One that was accepted may take as long as it takes.
	r.answer(observed.StepResult{State: observed.StepAccepted})
	r.w.Now = r.w.Now.Add(time.Hour)
	r.look()
	r.step()
}

func TestCancel(t *testing.T) {
	t.Run("before it begins", func(t *testing.T) {
		r := newRig(t)
		r.op.Cancel = "root@pg1"
		r.look()
		r.is(Cancelled)
	})
	t.Run("asked and not begun", func(t *testing.T) {
		r := newRig(t)
		r.look()
		r.op.Cancel = "root@pg1"
		r.look()
		r.is(Cancelling) // what was answered a moment before may still be on its way
		r.w.Now = noon.Add(answerArrives)
		r.look()
		r.is(Cancelled)
	})
	t.Run("begun, which was seen late", func(t *testing.T) {
		r := newRig(t)
		r.look()
		where, _ := r.step()
		r.op.Cancel = "root@pg1"
		r.look()
		r.results[where] = observed.StepResult{State: observed.StepAccepted}
		r.w.Now = noon.Add(answerArrives)
		r.look()
		r.is(Cancelling)
		r.results[where] = observed.StepResult{State: observed.StepFailed}
		r.look()
		r.is(Cancelled)
	})
	t.Run("while it goes on", func(t *testing.T) {
		r := newRig(t)
		r.look()
		where, _ := r.step()
		r.results[where] = observed.StepResult{State: observed.StepAccepted}
		r.op.Cancel = "root@pg1"
		r.look()
		r.is(Cancelling)
		if len(r.steps) != 0 {
			t.Error("its step was not taken back")
		}
		r.results[where] = observed.StepResult{State: observed.StepFailed, Message: "stopped"}
		r.look()
		r.is(Cancelled)
		if len(r.results) != 0 {
			t.Error("a result is left")
		}
	})
	t.Run("its agent was started anew meanwhile and never answers", func(t *testing.T) {
		r := newRig(t)
		r.look()
		where, _ := r.step()
		r.results[where] = observed.StepResult{State: observed.StepAccepted}
		r.op.Cancel = "root@pg1"
		r.look()
		r.is(Cancelling)
		r.w.Now = noon.Add(LostFor - time.Second)
		r.look()
		r.is(Cancelling)
		r.w.Now = noon.Add(LostFor)
		r.look()
		r.is(Cancelled)
		if len(r.results) != 0 {
			t.Error("a result is left")
		}
	})
	t.Run("its agent is lost", func(t *testing.T) {
		r := newRig(t)
		r.look()
		where, _ := r.step()
		r.results[where] = observed.StepResult{State: observed.StepAccepted}
		r.away["n1"] = true
		r.op.Cancel = "root@pg1"
		r.look()
		r.is(Cancelling)
		r.w.Now = noon.Add(LostFor)
		r.look()
		r.is(Cancelled)
	})
}

func TestDeadline(t *testing.T) {
	r := newRig(t)
	r.look()
	where, _ := r.step()
	r.results[where] = observed.StepResult{State: observed.StepAccepted}
	r.w.Now = r.op.Deadline
	r.look()
	r.is(Cancelling)
	r.results[where] = observed.StepResult{State: observed.StepFailed}
	r.look()
	r.is(Failed)
	if r.op.Reason != observed.DeadlineExceeded {
		t.Errorf("reason %s", r.op.Reason)
	}
}

func TestAnotherCluster(t *testing.T) {
	r := newRig(t)
	r.w.UID = "V"
	r.look()
	r.is(Failed)
}

func TestAnOlderAgent(t *testing.T) {
	r := newRig(t)
	r.w.Schema = func(string) (int, bool) { return plan.SchemaFiles, true }
	r.look()
	r.is(Failed)
	if r.op.Reason != observed.UnsupportedSchema {
		t.Errorf("reason %s: %s", r.op.Reason, r.op.Message)
	}
}

// every is a schedule with a due time at each multiple of a duration.
type every time.Duration

func (e every) Before(now time.Time) (time.Time, bool) { return now.Truncate(time.Duration(e)), true }
func (e every) After(now time.Time) time.Time {
	return now.Truncate(time.Duration(e)).Add(time.Duration(e))
}

func at(hours float64) time.Time { return noon.Add(time.Duration(hours * float64(time.Hour))) }

func made1(t plan.BackupType, hours float64, timeline int) observed.Backup {
	return observed.Backup{Type: string(t), Started: at(hours), Stopped: at(hours), LastWAL: fmt.Sprintf("%08X%016X", timeline, 5)}
}

func ended(s State, t plan.BackupType, hours float64) Stored {
	return Stored{Operation: Operation{Kind: KindBackup, ID: "x", State: s, Args: Args{Backup: t}, Began: at(hours), Ended: at(hours), Label: "x", Phases: []Phase{{}}}}
}

func TestDue(t *testing.T) {
	daily := Policy{Schedules: map[plan.BackupType]Schedule{plan.BackupFull: every(24 * time.Hour), plan.BackupIncremental: every(time.Hour)}}
	local := Policy{Local: true, Schedules: daily.Schedules}
	full, incr := plan.BackupFull, plan.BackupIncremental
	has := func(bs ...observed.Backup) *observed.Repository {
		return &observed.Repository{Stanza: true, Backups: bs}
	}
	for name, tc := range map[string]struct {
		policy Policy
		b      Backups
		now    float64
		want   plan.BackupType
	}{
		"nobody has looked into the repository":       {daily, Backups{}, 0, ""},
		"the first":                                   {daily, Backups{Repository: has()}, 0, full},
		"the first without a schedule":                {Policy{}, Backups{Repository: has()}, 0, full},
		"nothing is due":                              {daily, Backups{Repository: has(made1(full, 0.1, 1))}, 0.5, ""},
		"the next hour":                               {daily, Backups{Repository: has(made1(full, 0.1, 1))}, 1.1, incr},
		"a full one serves for an incremental one":    {daily, Backups{Repository: has(made1(full, 1.05, 1))}, 1.1, ""},
		"an incremental one does not serve as full":   {daily, Backups{Repository: has(made1(full, -30, 1), made1(incr, 11.9, 1))}, 12.1, full},
		"missed for days, once":                       {daily, Backups{Repository: has(made1(full, -100, 1))}, 0, full},
		"one goes on":                                 {daily, Backups{Repository: has(), Operations: []Stored{ended(Running, full, 0)}}, 0, ""},
		"done, and the report is older":               {daily, Backups{Repository: has(made1(full, 0, 1)), Operations: []Stored{ended(Done, incr, 1.05)}}, 1.055, ""},
		"failed just now":                             {daily, Backups{Repository: has(), Operations: []Stored{ended(Failed, full, 0)}}, 0.05, ""},
		"failed a while ago":                          {daily, Backups{Repository: has(), Operations: []Stored{ended(Failed, full, 0)}}, 0.1, full},
		"failed again":                                {daily, Backups{Repository: has(), Operations: []Stored{ended(Failed, full, 0), ended(Failed, full, 0.1)}}, 0.2, ""},
		"cancelled":                                   {daily, Backups{Repository: has(made1(full, 0, 1)), Operations: []Stored{ended(Cancelled, incr, 1.05)}}, 1.1, ""},
		"the first cancelled":                         {daily, Backups{Repository: has(), Operations: []Stored{ended(Cancelled, full, 0)}}, 0.5, ""},
		"failed over to an empty repository":          {local, Backups{Repository: has(), Elsewhere: true, Timeline: 2}, 0, full},
		"failed over to one with backups from before": {local, Backups{Repository: has(made1(full, 0.1, 1)), Timeline: 3}, 0.2, full},
		"failed over, the repository is shared":       {daily, Backups{Repository: has(made1(full, 0.1, 1)), Timeline: 3}, 0.2, ""},
		"made elsewhere, just now":                    {daily, Backups{Repository: has(made1(full, 0.1, 1)), Operations: []Stored{ended(Done, incr, 0.2)}}, 0.21, ""},
		"made elsewhere":                              {daily, Backups{Repository: has(made1(full, 0.1, 1)), Operations: []Stored{ended(Done, incr, 0.2)}}, 0.5, full},
		"the same leadership":                         {local, Backups{Repository: has(made1(full, 0.1, 3)), Timeline: 3}, 0.2, ""},
	} {
		got := Due(tc.policy, tc.b, at(tc.now))
		if got.Type != tc.want {
			t.Errorf("%s: %q due (%s), want %q", name, got.Type, got.Why, tc.want)
		}
		if len(tc.policy.Schedules) > 0 && !got.At.After(at(tc.now)) {
			t.Errorf("%s: looks again at %s", name, got.At)
		}
	}
}
