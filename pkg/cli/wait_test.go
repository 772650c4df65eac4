package cli

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

func cond(r observed.Reason, node string) status.Condition {
	return status.Condition{Node: node, Condition: observed.Condition{Type: observed.Applied, Status: observed.False, Reason: r}}
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
		"refused before, not yet its turn": {[]status.Condition{cond(observed.Rejected, "pg2"), cond(observed.RollingOut, "pg2")}, pending},
		"a document that was wrong":        {[]status.Condition{document}, reached},
		"a document that was wrong, and a change on its way": {[]status.Condition{document, cond(observed.NotPlanned, "pg1")}, pending},
	} {
		if got := judge(status.ClusterStatus{Conditions: c.conditions}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
