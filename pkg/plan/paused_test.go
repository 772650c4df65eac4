package plan_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func (s *story) paused() *story {
	s.view.Paused = true
	return s
}

// TestPauseTakesNothingAway: while Patroni is paused, neither a missing leader key nor
// a Patroni that answers no check takes clients from a PostgreSQL that takes writes;
// etcd naming another leader, or its own agent's withdrawal, does.
func TestPauseTakesNothingAway(t *testing.T) {
	for _, tc := range []struct {
		name string
		s    *story
		want string
	}{
		{"confirmed", begin().leads("a").confirms("a", true).paused(), "insist down down"},
		{"the leader key runs out", begin().leads("a").confirms("a", true).paused().leaderGone(), "insist down down"},
		{"and comes back", begin().leads("a").confirms("a", true).paused().leaderGone().leads("a"), "insist down down"},
		{"another is named", begin().leads("a").confirms("a", true).paused().leaderGone().leads("b"), "leave down down"},
		{"another is confirmed", begin().leads("a").confirms("a", true).paused().leads("b").confirms("b", true), "down insist down"},
		{"withdrawn", begin().leads("a").confirms("a", true).paused().confirms("a", false), "down down down"},
		{"withdrawn without a leader key", begin().leads("a").confirms("a", true).paused().leaderGone().confirms("a", false), "down down down"},
		{"the view is stale: checks decide", begin().leads("a").confirms("a", true).paused().blindFor(4 * time.Second), "leave leave leave"},
		{"never confirmed", begin().leads("a").paused(), "down down down"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.s.held(); got != tc.want {
				t.Errorf("held %q, want %q", got, tc.want)
			}
		})
	}
}

// TestStandbyClusterIsNotConfigured: it is recognised and left alone, with a reason;
// replicas serve.
func TestStandbyClusterIsNotConfigured(t *testing.T) {
	s := begin().leads("a").confirms("a", true)
	s.view.StandbyCluster = true
	apply, _, why := plan.Resolve(example(), s.view, s.now)
	for _, r := range apply {
		if _, ok := r.(plan.Patroni); ok {
			t.Error("Patroni's dynamic configuration would be written")
		}
	}
	found := false
	for _, c := range why {
		found = found || c.Reason == observed.Unsupported && c.Type == observed.Applied
	}
	if !found {
		t.Errorf("it says %v, want Unsupported", why)
	}
	targets, _ := plan.ResolveTargets(routes, s.view, s.now)
	for server, want := range map[string]plan.Verdict{"a": plan.Down, "b": plan.Leave, "c": plan.Leave} {
		if got := targets["replica"][server].Held; got != want {
			t.Errorf("replica service: %s is held %s, want %s", server, got, want)
		}
	}
}
