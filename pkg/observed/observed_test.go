package observed_test

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

func TestEveryReasonIsExplained(t *testing.T) {
	for r, meaning := range observed.Meaning {
		if r == "" || meaning == "" {
			t.Errorf("reason %q means %q", r, meaning)
		}
	}
}

// A sick node must not count as done because a healthy condition stands first.
func TestDoneWantsEveryCondition(t *testing.T) {
	applied := observed.Condition{Type: observed.Applied, Status: observed.True}
	well := observed.Condition{Type: observed.Healthy, Status: observed.True, Reason: observed.PatroniTooOld}
	sick := observed.Condition{Type: observed.Healthy, Status: observed.False, Reason: observed.LeaderFlapping}
	refused := observed.Condition{Type: observed.Applied, Status: observed.False, Reason: observed.Rejected}
	for name, tc := range map[string]struct {
		plan  int64
		conds []observed.Condition
		want  bool
	}{
		"applied":                 {7, []observed.Condition{applied}, true},
		"applied and well":        {7, []observed.Condition{applied, well}, true},
		"well first, sick second": {7, []observed.Condition{applied, well, sick}, false},
		"a resource refused":      {7, []observed.Condition{applied, refused}, false},
		"another plan":            {6, []observed.Condition{applied}, false},
		"nothing said":            {7, nil, false},
	} {
		if got := (observed.Report{Plan: tc.plan, Conditions: tc.conds}).Done(7); got != tc.want {
			t.Errorf("%s: done %v, want %v", name, got, tc.want)
		}
	}
}

func TestPrimaryRecordsAreOrdered(t *testing.T) {
	at := func(epoch, seq int64) observed.Primary { return observed.Primary{Epoch: epoch, Sequence: seq} }
	if !at(2, 1).Replaces(at(1, 9)) || !at(2, 2).Replaces(at(2, 1)) || at(2, 1).Replaces(at(2, 1)) || at(1, 9).Replaces(at(2, 1)) {
		t.Error("a later epoch, or the next sequence under the same one, replaces; nothing else does")
	}
}
