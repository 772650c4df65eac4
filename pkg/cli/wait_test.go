package cli

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

func cond(r observed.Reason, node string) status.Condition {
	return status.Condition{Node: node, Condition: observed.Condition{Type: observed.Applied, Status: observed.False, Reason: r}}
}

// note is a condition that nothing waits for.
func note(r observed.Reason, node string) status.Condition {
	c := cond(r, node)
	c.Status = observed.True
	return c
}

func TestJudge(t *testing.T) {
	document := cond(observed.InvalidDocument, "")
	document.Type = observed.Valid
	for name, c := range map[string]struct {
		conditions []status.Condition
		want       verdict
	}{
		"nothing":                          {nil, reached},
		"a note":                           {[]status.Condition{cond(observed.PendingRestart, "pg1")}, reached},
		"not planned":                      {[]status.Condition{cond(observed.NotPlanned, "pg1")}, pending},
		"a node without agent":             {[]status.Condition{cond(observed.NodeAbsent, "pg1"), cond(observed.RollingOut, "pg1")}, reached},
		"another node is still at it":      {[]status.Condition{cond(observed.NodeAbsent, "pg1"), cond(observed.NotApplied, "pg2")}, pending},
		"refused":                          {[]status.Condition{cond(observed.Rejected, "pg2"), cond(observed.RollingOut, "pg1")}, failed},
		"frozen, and nothing waits for it": {[]status.Condition{note(observed.Frozen, "pg1")}, reached},
		"frozen":                           {[]status.Condition{cond(observed.Frozen, "pg1"), cond(observed.RollingOut, "pg2"), note(observed.Frozen, "pg1")}, failed},
		"refused before, not yet its turn": {[]status.Condition{cond(observed.Rejected, "pg2"), cond(observed.RollingOut, "pg2")}, pending},
		"a document that was wrong":        {[]status.Condition{document}, reached},
		"a document that was wrong, and a change on its way": {[]status.Condition{document, cond(observed.NotPlanned, "pg1")}, pending},
	} {
		if got := judge(status.ClusterStatus{Conditions: c.conditions}, nil); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestJudgePassesByWhatWasWrongBefore: another document that a host refuses is not what
// this change waits for; the changed one is, and so is whatever went wrong since.
func TestJudgePassesByWhatWasWrongBefore(t *testing.T) {
	const other, mine = "/pgctrl/desired/clusters/c/databases/Shop", "/pgctrl/desired/clusters/c/postgres"
	a := &app{settings: Settings{Layout: keys.Default}}
	wrong := func(key string) status.Condition {
		c := cond(observed.Rejected, "pg1")
		c.Key = key
		return c
	}
	was := []status.ClusterStatus{{Conditions: []status.Condition{wrong(other), wrong(mine), wrong("/pgctrl/plan/pg1/c/haproxy")}}}
	before := a.wrongBefore(was, change{writes: map[string][]byte{mine: nil}})
	for key, want := range map[string]verdict{other: reached, mine: failed, "/pgctrl/plan/pg1/c/haproxy": failed, "/pgctrl/desired/clusters/c/hba/new": failed} {
		if got := judge(status.ClusterStatus{Conditions: []status.Condition{wrong(key)}}, before); got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
}

// TestMilestones: the word is the one that is known.
func TestMilestones(t *testing.T) {
	cluster := func(state string, follows bool) status.ClusterStatus {
		return status.ClusterStatus{Primary: "a", Timeline: 1, Members: []status.Member{
			{Name: "a", State: "running"}, {Name: "b", State: state, Follows: follows}, {Name: "c", State: "streaming", Follows: true},
		}}
	}
	for want, s := range map[string]status.ClusterStatus{
		"b, c streaming":           cluster("streaming", true),
		"b, c running as replicas": cluster("running", true),
		"":                         cluster("running", false),
	} {
		got := ""
		for _, m := range milestones(s) {
			if m.name == "following" {
				got = m.text
			}
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFrozen(t *testing.T) {
	all := func(cs ...status.Condition) []status.ClusterStatus { return []status.ClusterStatus{{Conditions: cs}} }
	held := cond(observed.Frozen, "pg1")
	for name, c := range map[string]struct {
		all  []status.ClusterStatus
		want bool
	}{
		"nothing":              {all(), false},
		"a note only":          {all(note(observed.Frozen, "pg1")), false},
		"held":                 {all(held, cond(observed.RollingOut, "pg2")), true},
		"held, and refused so": {all(held, cond(observed.Rejected, "pg2")), false},
	} {
		if got := frozen(c.all); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
