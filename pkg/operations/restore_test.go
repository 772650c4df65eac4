package operations

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// restoreRig is a restore in place of three members of which c-1 leads.
func restoreRig(t *testing.T) *rig {
	r := newRig(t)
	r.op = NewRestore(Asked{Cluster: "c", UID: "U", Store: "S", By: "root@n1", At: noon},
		plan.Restore{First: "c-1", Data: "/data/c", Bin: "/bin", Backup: "L", Target: "latest"}, []string{"c-2", "c-3"}, true)
	return r
}

// pass answers what is asked until the phase and member are asked, and says what was asked on
// the way. What the cluster does meanwhile it does here: the last act that stops a leader
// leaves nobody to lead.
func (r *rig) pass(upTo string) (asked []string) {
	r.t.Helper()
	r.look()
	for range 40 {
		if r.op.State.Final() {
			return asked
		}
		_, s := r.step()
		is := string(s.Act) + " " + s.Member
		if is == upTo {
			return asked
		}
		asked = append(asked, is)
		switch s.Act {
		case plan.ActSwap:
			r.w.Leader, r.w.Epoch, r.w.Confirmed = "", 0, false
		case plan.ActLead:
			r.w.Leader, r.w.Epoch, r.w.Confirmed, r.w.ConfirmedIn = s.Member, 99, true, 99
		}
		r.answer(observed.StepResult{State: observed.StepDone})
	}
	r.t.Fatal("it never ends")
	return nil
}

func TestRestoreInPlace(t *testing.T) {
	r := restoreRig(t)
	asked := strings.Join(r.pass(""), ", ")
	want := "archive c-1, prepare c-1, set-aside c-2, set-aside c-3, swap c-1, lead c-1, follow c-2, follow c-3"
	if asked != want || r.op.State != Done {
		t.Fatalf("asked %s; %s %s", asked, r.op.State, r.op.Message)
	}
	if at := r.op.RestoredAt(); at.IsZero() {
		t.Error("when it led is not known")
	}
	if k := r.op.Keeps(); !slices.Equal(k, []string{"c-1", "c-3", "c-2"}) {
		t.Errorf("keeps %v", k)
	}
	r.op.Discarded = noon
	if len(r.op.Keeps()) > 0 {
		t.Error("keeps what was discarded")
	}
}

// TestRestoreIsTakenBack after a failure in each phase: before the restored data lead every
// member whose data were touched gets them back, the first one first; after that it goes on.
func TestRestoreIsTakenBack(t *testing.T) {
	for phase, want := range map[string]struct {
		state State
		then  string
	}{
		"archive c-1":   {Failed, ""},
		"prepare c-1":   {Failed, ""},
		"set-aside c-2": {Failed, "put-back c-2"},
		"set-aside c-3": {Failed, "put-back c-3, put-back c-2"},
		"swap c-1":      {Failed, "put-back c-1, put-back c-3, put-back c-2"},
		"lead c-1":      {Failed, "put-back c-1, put-back c-3, put-back c-2"},
		"follow c-2":    {Failed, "follow c-3"},
		"follow c-3":    {Failed, ""},
	} {
		for _, way := range []string{"fails", "cancelled", "deadline"} {
			t.Run(phase+" "+way, func(t *testing.T) {
				r := restoreRig(t)
				r.pass(phase)
				state := want.state
				switch way {
				case "fails":
					r.fails("no way")
				case "cancelled":
					if strings.HasPrefix(phase, "follow") {
						r.op.Cancel = "root@n1"
						r.pass("")
						if r.op.State != Done {
							t.Fatalf("data that lead were given up: %s %s", r.op.State, r.op.Message)
						}
						return
					}
					state, r.op.Cancel = Cancelled, "root@n1"
					where := r.only()
					r.look()
					r.results[where] = observed.StepResult{State: observed.StepFailed}
					r.look()
				case "deadline":
					where := r.only()
					r.w.Now = r.op.Deadline
					r.look()
					if strings.HasPrefix(phase, "follow") {
						if r.op.State != Failed || r.op.Reason != observed.DeadlineExceeded || r.op.Undo {
							t.Fatalf("%s %s", r.op.State, r.op.Message)
						}
						return
					}
					r.results[where] = observed.StepResult{State: observed.StepFailed}
					r.look()
				}
				then := strings.Join(r.pass(""), ", ")
				if then != want.then || r.op.State != state {
					t.Fatalf("then %q, want %q; %s: %s", then, want.then, r.op.State, r.op.Message)
				}
				if undone := strings.Contains(want.then, "put-back"); undone != strings.Contains(r.op.Message, "in their place again") || undone != r.op.Undo {
					t.Errorf("says %q", r.op.Message)
				}
				if len(r.steps) > 0 {
					t.Errorf("left %v", r.steps)
				}
			})
		}
	}
}

// fails has the act that is asked fail as often as it is tried.
func (r *rig) fails(message string) {
	r.t.Helper()
	_, s := r.step()
	for try := range triesOf(restorePhaseOf(s.Act)) {
		if try > 0 {
			r.w.Now = r.w.Now.Add(time.Hour)
			r.look()
		}
		if _, now := r.step(); now.Act != s.Act || now.Member != s.Member {
			r.t.Fatalf("%s %s is not tried again; %s %s is asked", s.Act, s.Member, now.Act, now.Member)
		}
		r.answer(observed.StepResult{State: observed.StepFailed, Reason: observed.RestoreFailed, Message: message})
	}
}

func restorePhaseOf(act plan.Act) string {
	for phase, does := range restoreActs {
		if does == act {
			return phase
		}
	}
	return string(act)
}

// until lets time pass until a node is asked.
func (r *rig) until(node string) {
	r.t.Helper()
	for range 50 {
		for where := range r.steps {
			if strings.HasPrefix(where, node+"/") {
				return
			}
		}
		r.w.Now = r.w.Now.Add(LostFor / 2)
		r.look()
	}
	r.t.Fatalf("%s is never asked: %v", node, r.steps)
}

// only is where the one step is that is asked.
func (r *rig) only() string {
	where, _ := r.step()
	return where
}

// TestRestoreGoesOnWithoutAMember: an agent that is away holds up nobody else once the data
// lead, or are put back.
func TestRestoreGoesOnWithoutAMember(t *testing.T) {
	r := restoreRig(t)
	r.pass("follow c-2")
	r.away["n2"] = true
	r.until("n3")
	if where, s := r.step(); s.Act != plan.ActFollow || s.Member != "c-3" {
		t.Fatalf("asked %s", where)
	}
	r.pass("")
	if r.op.State != Failed || r.op.Reason != observed.NodeAbsent || !strings.HasPrefix(r.op.Message, "the data are restored; follow on n2: ") {
		t.Errorf("%s %s %s", r.op.State, r.op.Reason, r.op.Message)
	}
	if r.op.Next != "systemctl enable --now patroni@c (on n2)" {
		t.Errorf("its Patroni stays stopped when its host is back, and what to do is %q", r.op.Next)
	}

	// Undone: the others first while the one that was to lead is away, and that one to the end.
	r = restoreRig(t)
	r.pass("swap c-1")
	r.fails("it does not stop")
	r.away["n1"] = true
	r.until("n3")
	if got := strings.Join(r.passAway("put-back c-1"), ", "); got != "put-back c-3, put-back c-2" || r.op.State.Final() {
		t.Fatalf("asked %s; %s", got, r.op.State)
	}
	r.w.Now = r.w.Now.Add(30 * time.Hour)
	r.look()
	if r.away["n1"] = false; r.op.State.Final() {
		t.Fatalf("a member was given up: %s", r.op.Message)
	}
	if r.pass(""); r.op.State != Failed || !strings.Contains(r.op.Message, "in their place again") {
		t.Fatalf("%s %s", r.op.State, r.op.Message)
	}

	// When Patroni's word of who may lead is gone, nobody leads before that one.
	r = restoreRig(t)
	r.pass("lead c-1")
	r.fails("PostgreSQL does not start")
	r.away["n1"] = true
	for range 10 {
		r.w.Now = r.w.Now.Add(LostFor)
		if r.look(); len(r.steps) > 0 && r.only()[:2] != "n1" {
			t.Fatalf("asked %v", r.steps)
		}
	}
	r.away["n1"] = false
	if got := strings.Join(r.pass(""), ", "); !strings.HasSuffix(got, "put-back c-1, put-back c-3, put-back c-2") || r.op.State != Failed {
		t.Fatalf("asked %s; %s", got, r.op.State)
	}
}

// passAway is pass for as long as anything is asked.
func (r *rig) passAway(upTo string) (asked []string) {
	r.t.Helper()
	for range 40 {
		if r.look(); len(r.steps) == 0 {
			return asked
		}
		_, s := r.step()
		if is := string(s.Act) + " " + s.Member; is != upTo {
			asked = append(asked, is)
		}
		r.answer(observed.StepResult{State: observed.StepDone})
	}
	r.t.Fatal("it never ends")
	return nil
}

// TestRestoreStopsNobodyElse: when another member leads by the time the backup is ready,
// nothing is stopped.
func TestRestoreStopsNobodyElse(t *testing.T) {
	r := restoreRig(t)
	r.pass("prepare c-1")
	r.w.Leader, r.w.Epoch = "c-2", 20
	r.pass("")
	if r.op.State != Failed || r.op.Reason != observed.LeaderChanged || len(r.op.Touched()) > 0 || r.op.Undo {
		t.Fatalf("%s %s %v", r.op.State, r.op.Message, r.op.Touched())
	}
	if k := r.op.Keeps(); !slices.Equal(k, []string{"c-1"}) {
		t.Errorf("what was prepared is kept on %v", k)
	}
}

// TestRestoreWithoutALeader: a cluster that can't lead any more is restored too.
func TestRestoreWithoutALeader(t *testing.T) {
	r := newRig(t)
	r.w.Leader, r.w.Epoch, r.w.Confirmed = "", 0, false
	r.op = NewRestore(Asked{Cluster: "c", UID: "U", Store: "S", At: noon}, plan.Restore{First: "c-1", Data: "/data/c"}, []string{"c-2"}, false)
	if got := strings.Join(r.pass(""), ", "); got != "prepare c-1, set-aside c-2, swap c-1, lead c-1, follow c-2" || r.op.State != Done {
		t.Fatalf("asked %s; %s %s", got, r.op.State, r.op.Message)
	}
}

// TestRestoreRecordsOfOthers: what is not a restore is never carried out as one.
func TestRestoreRecordsOfOthers(t *testing.T) {
	for i, bad := range []*plan.Restore{nil, {}, {Operation: "restore-1", Data: "/"}, {Operation: "restore-1", Data: "data"}, {Operation: "restore-1/../x", Data: "/data/c"}} {
		r := restoreRig(t)
		r.op.Args.Restore = bad
		r.look()
		if r.op.State != Failed || r.asked > 0 {
			t.Errorf("%d: %s, %d steps", i, r.op.State, r.asked)
		}
	}
}

// TestFullBackupAfterARestore is due at once, also when the restore had one end.
func TestFullBackupAfterARestore(t *testing.T) {
	r := restoreRig(t)
	r.pass("")
	b := Backups{Leader: "c-1", Timeline: 3, Repository: &observed.Repository{Backups: []observed.Backup{
		{Label: "L", Type: "full", Started: noon.Add(-2 * time.Hour), Stopped: noon.Add(-time.Hour), LastWAL: "000000030000000000000001"},
	}}}
	cut := NewBackup(Asked{Cluster: "c", At: noon.Add(-time.Minute)}, plan.BackupIncremental)
	cut.State, cut.Cancel, cut.Ended = Cancelled, r.op.ID, noon.Add(-time.Second)
	b.Operations = []Stored{{Operation: cut}}
	if n := Due(Policy{}, b, noon); n.Type != "" {
		t.Fatalf("due before: %+v", n)
	}
	b.Operations = append(b.Operations, Stored{Operation: r.op})
	now := r.op.RestoredAt().Add(time.Second)
	if n := Due(Policy{}, b, now); n.Type != plan.BackupFull || n.Why != "the data were restored" {
		t.Fatalf("due %+v", n)
	}
	b.Repository.Backups = append(b.Repository.Backups, observed.Backup{Label: "M", Type: "full", Started: now.Add(time.Second), Stopped: now.Add(2 * time.Second)})
	if n := Due(Policy{}, b, now.Add(time.Minute)); n.Type != "" {
		t.Fatalf("due again: %+v", n)
	}
}

func TestDiscard(t *testing.T) {
	r := restoreRig(t)
	r.pass("")
	op := NewDiscard(Asked{Cluster: "c", UID: "U", Store: "S", At: noon}, *r.op.Args.Restore, r.op.Keeps())
	r.op = op
	if got := fmt.Sprint(r.pass("")); got != "[discard c-1 discard c-3 discard c-2]" || r.op.State != Done || r.op.Disrupts() {
		t.Fatalf("asked %s; %s", got, r.op.State)
	}
}
