package plan_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestClusterCreatedAgain: the confirmation of an earlier cluster of the same name is
// not believed, although the member and the order of epochs would fit: its system
// identifier is another one, or its uid.
func TestClusterCreatedAgain(t *testing.T) {
	old := observed.Primary{Member: "a", Epoch: 90, Sequence: 1, Writable: true, System: "7001", UID: "u1"}
	for _, c := range []struct {
		name        string
		system, uid string
		believed    bool
	}{
		{"the same cluster", "7001", "u1", true},
		{"a new system identifier", "7002", "", false},
		{"a new uid", "", "u2", false},
		{"not initialised yet, no plan seen", "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := begin().leads("a")
			s.view.System, s.view.UID = c.system, c.uid
			s.view.ObservePrimary(old)
			if got := s.view.Confirmed(); got != c.believed {
				t.Errorf("confirmed: %v, want %v", got, c.believed)
			}
			targets, _ := plan.ResolveTargets(routes, s.view, s.now)
			if up := targets["default"]["a"].Held == plan.Up; up != c.believed {
				t.Errorf("a is held %s", targets["default"]["a"].Held)
			}
			s.leaderGone()
			if kept := targetOf(s, "a").Held == plan.Leave; kept != c.believed {
				t.Errorf("without a leader a is held %s", targetOf(s, "a").Held)
			}
		})
	}
}

// TestWithdrawalOfAnEarlierCluster: it does not keep the new one's leader from the
// second in which it may be confirmed.
func TestWithdrawalOfAnEarlierCluster(t *testing.T) {
	s := begin().leads("a")
	s.view.System = "7002"
	s.view.ObservePrimary(observed.Primary{Member: "a", Epoch: 200, Sequence: 2, System: "7001"})
	_, why := plan.ResolveTargets(routes, s.view, s.now.Add(time.Millisecond))
	if len(why) != 1 || why[0].Message != "a leads and is not confirmed yet" {
		t.Errorf("said %v", why)
	}
}

func targetOf(s *story, server string) plan.Target {
	targets, _ := plan.ResolveTargets(routes, s.view, s.now)
	return targets["default"][server]
}
