package operations

import (
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/schedule"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

var proofOf = plan.Verify{Backup: "20260301-010000F", Data: "/var/lib/postgresql/15/c", Bin: "/usr/lib/postgresql/15/bin"}

func newProof(t *testing.T, member string, local bool) *rig {
	r := newRig(t)
	v := proofOf
	v.Local = local
	r.op = NewVerify(Asked{Cluster: "c", UID: "U", Store: "S", By: BySchedule, At: noon}, v, member)
	return r
}

func TestAProof(t *testing.T) {
	r := newProof(t, "c-2", false)
	r.look()
	where, s := r.step()
	if !strings.HasPrefix(where, "n1/") || s.Act != plan.ActHeartbeat || s.Verify.Heartbeat != r.op.ID || s.Schema != plan.SchemaRestore {
		t.Fatalf("first %s %+v", where, s)
	}
	r.answer(observed.StepResult{State: observed.StepDone, Heartbeat: &observed.Heartbeat{ID: r.op.ID, Window: 7}})
	if where, s = r.step(); !strings.HasPrefix(where, "n2/") || s.Act != plan.ActVerify || s.Member != "c-2" || *s.Verify != *r.op.Args.Verify {
		t.Fatalf("second %s %+v", where, s)
	}
	r.answer(observed.StepResult{State: observed.StepDone, Label: "L", Recovered: &observed.Recovered{Fetch: 3, Replay: 2}})
	r.is(Done)
	if r.op.Heartbeat.Window != 7 || r.op.Recovered.Seconds() != 5 || r.op.Label != "L" || r.op.Disrupts() {
		t.Errorf("%+v", r.op)
	}
}

// TestAFailedProofIsNotMadeThreeTimes: each copies the whole database, and would say the same.
func TestAFailedProofIsNotMadeThreeTimes(t *testing.T) {
	for reason, want := range map[observed.Reason]State{observed.RecoveryFailed: Failed, observed.NoRoom: Failed, observed.RepositoryUnreachable: Running, observed.AgentCutOff: Running} {
		r := newProof(t, "c-2", false)
		r.look()
		r.answer(observed.StepResult{State: observed.StepDone})
		r.answer(observed.StepResult{State: observed.StepFailed, Reason: reason, Message: "no"})
		r.is(want)
	}
}

// TestAProofInAFolderOfTheFormerPrimary: what the new one archives is elsewhere, which says
// nothing against the backup.
func TestAProofInAFolderOfTheFormerPrimary(t *testing.T) {
	r := newProof(t, "c-1", true)
	r.look()
	r.answer(observed.StepResult{State: observed.StepDone})
	r.w.Leader, r.w.Epoch = "c-2", 20
	r.answer(observed.StepResult{State: observed.StepRefused, Reason: observed.LeaderChanged})
	r.w.Now = noon.Add(time.Minute)
	r.look()
	r.is(Failed)
	if r.op.Reason != observed.LeaderChanged {
		t.Errorf("%+v", r.op)
	}
	if o, is := Disproof([]Stored{{Operation: r.op}}); is {
		t.Errorf("it counts against the backup: %+v", o)
	}
	// In an object store it goes on.
	r = newProof(t, "c-1", false)
	r.look()
	r.answer(observed.StepResult{State: observed.StepDone})
	r.w.Leader, r.w.Epoch = "c-2", 20
	r.answer(observed.StepResult{State: observed.StepRefused, Reason: observed.LeaderChanged})
	r.w.Now = noon.Add(time.Minute)
	r.look()
	if where, s := r.step(); !strings.HasPrefix(where, "n1/") || s.Epoch != 20 {
		t.Errorf("asked %s %+v", where, s)
	}
	// A member that is gone has no node.
	r = newProof(t, "c-9", false)
	r.w.Node = func(m string) string { return map[string]string{"c-1": "n1"}[m] }
	r.look()
	r.answer(observed.StepResult{State: observed.StepDone})
	r.is(Failed)
}

func TestARecordThatDoesNotSayWhatIsVerified(t *testing.T) {
	for name, change := range map[string]func(*plan.Verify){
		"relative": func(v *plan.Verify) { v.Data = "c" }, "up": func(v *plan.Verify) { v.Data = "/a/../c" }, "top": func(v *plan.Verify) { v.Data = "/c" },
		"id": func(v *plan.Verify) { v.Heartbeat = "x'y" },
	} {
		r := newProof(t, "c-2", false)
		change(r.op.Args.Verify)
		r.look()
		if r.is(Failed); r.op.Reason != observed.NotPlanned || r.asked > 0 {
			t.Errorf("%s: %+v", name, r.op)
		}
	}
}

func TestVerifyOn(t *testing.T) {
	all := []VerifyMember{{"c-1", "n1", true}, {"c-2", "n2", false}, {"c-3", "n3", true}}
	for name, c := range map[string]struct {
		p      VerifyPolicy
		leader string
		want   string
	}{
		"a replica":                  {VerifyPolicy{}, "c-1", "c-3"},
		"the first replica":          {VerifyPolicy{}, "c-3", "c-1"},
		"a folder of the primary":    {VerifyPolicy{Local: true}, "c-3", "c-3"},
		"as the document says":       {VerifyPolicy{Node: "n2"}, "c-1", "c-2"},
		"a folder, as it says":       {VerifyPolicy{Node: "n1", Local: true}, "c-1", "c-1"},
		"a folder that is not there": {VerifyPolicy{Node: "n2", Local: true}, "c-1", ""},
		"a node without a member":    {VerifyPolicy{Node: "n9"}, "c-1", ""},
		"nobody leads":               {VerifyPolicy{}, "", ""},
	} {
		m, err := VerifyOn(c.p, all, c.leader)
		if (err != nil) != (c.want == "") || err == nil && m.Name != c.want {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if m, err := VerifyOn(VerifyPolicy{}, all[:1], "c-1"); err != nil || m.Name != "c-1" {
		t.Errorf("alone: %+v, %v", m, err)
	}
}

// noon is Sunday, 1 March 2026; proofs are due on Sundays at 4.
func weekly(t *testing.T) VerifyPolicy {
	s, err := schedule.Parse("0 4 * * 0", "UTC")
	if err != nil {
		t.Fatal(err)
	}
	return VerifyPolicy{Schedule: s, Stale: 15 * 24 * time.Hour}
}

func proofs(ops ...Operation) (out []Stored) {
	for _, o := range ops {
		if o.Kind == "" {
			o.Kind, o.Args.Verify = KindVerify, &proofOf
		}
		out = append(out, Stored{Operation: o})
	}
	return out
}

func TestVerifyDue(t *testing.T) {
	day := 24 * time.Hour
	due := noon.Add(-8 * time.Hour)
	old := &observed.Repository{Backups: []observed.Backup{{Label: "A", Stopped: noon.Add(-30 * day)}, {Label: "B", Stopped: noon.Add(-time.Hour)}}}
	done := func(began time.Duration) Operation {
		return Operation{State: Done, Began: noon.Add(began), Ended: noon.Add(began), Recovered: &observed.Recovered{}}
	}
	failed := func(began time.Duration, r observed.Reason) Operation {
		return Operation{State: Failed, Reason: r, Began: noon.Add(began), Ended: noon.Add(began)}
	}
	for name, c := range map[string]struct {
		r    *observed.Repository
		ops  []Stored
		due  bool
		when time.Duration // to look again; 0: at the next Sunday
	}{
		"nobody has looked":                  {r: nil, when: -1},
		"no backup":                          {r: &observed.Repository{}, when: -1},
		"not readable now":                   {r: &observed.Repository{Backups: old.Backups, Error: "away"}, when: -1},
		"never, with a backup before":        {r: old, due: true},
		"a cluster that was made since":      {r: &observed.Repository{Backups: old.Backups[1:]}},
		"missed, and older ones are gone":    {r: &observed.Repository{Backups: old.Backups[1:]}, ops: proofs(done(-8 * day)), due: true},
		"made":                               {r: old, ops: proofs(done(-7 * time.Hour))},
		"made the week before":               {r: old, ops: proofs(done(-7*day - 7*time.Hour)), due: true},
		"goes on":                            {r: old, ops: proofs(Operation{State: Running})},
		"a backup goes on":                   {r: old, ops: proofs(Operation{Kind: KindBackup, State: Running})},
		"a restore goes on":                  {r: old, ops: proofs(Operation{Kind: KindRestore, State: Waiting})},
		"failed a moment ago":                {r: old, ops: proofs(failed(-time.Minute, observed.RecoveryFailed)), when: 59 * time.Minute},
		"failed an hour ago":                 {r: old, ops: proofs(failed(-time.Hour, observed.RecoveryFailed)), due: true},
		"failed twice":                       {r: old, ops: proofs(failed(-3*time.Hour, observed.RecoveryFailed), failed(-time.Hour, observed.RecoveryFailed)), when: time.Hour},
		"a failover ended it":                {r: old, ops: proofs(failed(-6*time.Minute, observed.LeaderChanged)), due: true},
		"failed the week before":             {r: old, ops: proofs(failed(-9*time.Hour, observed.RecoveryFailed), done(-8*day)), due: true},
		"a person cancelled it":              {r: old, ops: proofs(Operation{State: Cancelled, Cancel: "me", Began: noon.Add(-time.Hour)})},
		"a restore in place had it give way": {r: old, ops: proofs(Operation{State: Cancelled, Cancel: "restore-x", Began: noon.Add(-time.Hour)}), due: true},
	} {
		n := VerifyDue(weekly(t), Backups{Repository: c.r, Operations: c.ops}, noon)
		want := due.Add(7 * day)
		if c.when > 0 {
			want = noon.Add(c.when)
		} else if c.when < 0 {
			want = time.Time{}
		}
		if n.Due != c.due || !n.At.Equal(want) || c.due && (n.Backup.Label != "B" || !strings.Contains(n.Why, "2026-03-01 04:00 UTC")) {
			t.Errorf("%s: %+v, want due %t, look again %s", name, n, c.due, want)
		}
	}
	if n := VerifyDue(VerifyPolicy{Stale: day}, Backups{Repository: old}, noon); n.Due || !n.At.IsZero() {
		t.Errorf("none is ever due: %+v", n)
	}
}

// TestStaleProofIsSaid: a proof that is too old makes the concern unhealthy, and so does one
// that failed; a move does not.
func TestStaleProofIsSaid(t *testing.T) {
	day := 24 * time.Hour
	done := func(ended time.Duration) Operation {
		return Operation{State: Done, Label: "L", Ended: noon.Add(ended), Recovered: &observed.Recovered{}}
	}
	failed := func(r observed.Reason) Operation {
		return Operation{State: Failed, Reason: r, ID: "verify-9", Message: "no segment", Ended: noon}
	}
	old := []observed.Backup{{Label: "A", Stopped: noon.Add(-16 * day)}}
	for name, c := range map[string]struct {
		ops     []Stored
		backups []observed.Backup
		want    []observed.Reason
	}{
		"fresh":                   {ops: proofs(done(-14 * day))},
		"stale":                   {ops: proofs(done(-15 * day)), want: []observed.Reason{observed.VerificationStale}},
		"never, of late":          {backups: []observed.Backup{{Stopped: noon.Add(-day)}}},
		"never, for long":         {backups: old, want: []observed.Reason{observed.VerificationStale}},
		"failed":                  {ops: proofs(done(-8*day), failed(observed.RecoveryFailed)), want: []observed.Reason{observed.VerificationFailed}},
		"failed, and stale":       {ops: proofs(done(-16*day), failed(observed.RecoveryFailed)), want: []observed.Reason{observed.VerificationFailed, observed.VerificationStale}},
		"failed, and then it did": {ops: proofs(failed(observed.RecoveryFailed), done(-time.Hour))},
		"a failover ended it":     {ops: proofs(done(-8*day), failed(observed.LeaderChanged))},
		"failed, then a failover": {ops: proofs(failed(observed.RecoveryFailed), failed(observed.LeaderChanged)), want: []observed.Reason{observed.VerificationFailed}},
	} {
		b := Backups{Repository: &observed.Repository{Backups: c.backups}, Operations: c.ops}
		cs := VerifyConditions(weekly(t), b, "c", noon)
		var got []observed.Reason
		for _, cond := range cs {
			if got = append(got, cond.Reason); !cond.Bad() || cond.Next == "" {
				t.Errorf("%s: %+v", name, cond)
			}
		}
		if strings.Join(words(got), " ") != strings.Join(words(c.want), " ") {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	b := Backups{Operations: proofs(done(-15*day + time.Minute))}
	if at := VerifyLook(weekly(t), b, noon); !at.Equal(noon.Add(time.Minute)) {
		t.Errorf("to be looked at again %s", at)
	}
	for _, p := range []VerifyPolicy{{Stale: day}, {Schedule: weekly(t).Schedule}} {
		if cs := VerifyConditions(p, Backups{Operations: proofs(done(-99 * day))}, "c", noon); len(cs) > 0 {
			t.Errorf("%+v: %v", p, cs)
		}
	}
}

func words(rs []observed.Reason) (out []string) {
	for _, r := range rs {
		out = append(out, string(r))
	}
	return out
}
