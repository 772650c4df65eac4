package plan_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

var t0 = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

var routes = map[string]plan.Route{
	"default": {Role: plan.RoutePrimary, Servers: []plan.RouteServer{{Name: "a"}, {Name: "b"}, {Name: "c"}}},
	"replica": {Role: plan.RouteReplica, Servers: []plan.RouteServer{{Name: "a"}, {Name: "b"}, {Name: "c"}}},
}

// story plays events into a view, so that a test reads as what happened.
type story struct {
	view plan.View
	now  time.Time
	rev  int64
}

func begin() *story {
	running := patroni.Member{State: "running"}
	return &story{now: t0, rev: 100, view: plan.View{
		Known: true, FreshAt: t0,
		Members: map[string]patroni.Member{"a": running, "b": running, "c": running},
	}}
}

func (s *story) leads(member string) *story {
	s.rev++
	s.view.Observe(member, plan.Epoch(s.rev), s.rev, s.now)
	return s
}

func (s *story) leaderGone() *story { return s.leads("") }

func (s *story) confirms(member string, writable bool) *story {
	s.rev++
	p := observed.Primary{Member: member, Epoch: int64(s.view.Last.Epoch), Sequence: s.rev, Writable: writable}
	s.view.ObservePrimary(p)
	return s
}

func (s *story) after(d time.Duration) *story {
	s.now = s.now.Add(d)
	s.view.FreshAt = s.now
	return s
}

func (s *story) blindFor(d time.Duration) *story {
	s.now = s.now.Add(d)
	return s
}

// held is the read-write backend in one word per server, in the order a b c.
func (s *story) held() string {
	targets, _ := plan.ResolveTargets(routes, s.view, s.now)
	out := ""
	for _, m := range []string{"a", "b", "c"} {
		out += targets["default"][m].Held.String() + " "
	}
	return out[:len(out)-1]
}

func TestReadWriteRoutes(t *testing.T) {
	for _, tc := range []struct {
		name string
		s    *story
		want string
	}{
		{"nobody leads yet", begin(), "down down down"},
		{"a leader is not a primary", begin().leads("a"), "down down down"},
		{"a confirmed leader is", begin().leads("a").confirms("a", true), "up down down"},
		{"the leader key goes: nothing moves", begin().leads("a").confirms("a", true).leaderGone(), "leave down down"},
		{"the same leader returns: nothing moves", begin().leads("a").confirms("a", true).leaderGone().after(3 * time.Second).leads("a"), "up down down"},
		{"another is named: the old one may be kept", begin().leads("a").confirms("a", true).leads("b").after(900 * time.Millisecond), "leave down down"},
		{"for one second", begin().leads("a").confirms("a", true).leads("b").after(1100 * time.Millisecond), "down down down"},
		{"the other is confirmed", begin().leads("a").confirms("a", true).leads("b").confirms("b", true), "down up down"},
		{"its PostgreSQL stops under the same epoch", begin().leads("a").confirms("a", true).confirms("a", false), "down down down"},
		{"and comes back", begin().leads("a").confirms("a", true).confirms("a", false).confirms("a", true), "up down down"},
		{"back to a after b led unconfirmed: the old confirmation is void", begin().leads("a").confirms("a", true).leads("b").leads("a"), "down down down"},
		{"the view is stale: checks decide", begin().leads("a").confirms("a", true).blindFor(3100 * time.Millisecond), "leave leave leave"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.s.held(); got != tc.want {
				t.Errorf("held %q, want %q", got, tc.want)
			}
		})
	}
}

func TestStandbyClusterTakesNoWrites(t *testing.T) {
	s := begin().leads("a").confirms("a", true)
	s.view.StandbyCluster = true
	if got := s.held(); got != "down down down" {
		t.Errorf("held %q, want everything down", got)
	}
}

func TestStaleViewStartsReadWriteServersDown(t *testing.T) {
	s := begin().leads("a").confirms("a", true).blindFor(time.Minute)
	targets, why := plan.ResolveTargets(routes, s.view, s.now)
	for server, target := range targets["default"] {
		if target.Start != plan.Down {
			t.Errorf("server %s starts %s, want down: a start without knowledge must not leak", server, target.Start)
		}
	}
	if len(why) != 1 || why[0].Reason != observed.StaleView {
		t.Errorf("reasons %v, want StaleView", why)
	}
}

func TestReplicaRouteLeavesTheLeaderOut(t *testing.T) {
	s := begin().leads("a").confirms("a", true)
	s.view.Members["c"] = patroni.Member{State: "creating replica"}
	targets, _ := plan.ResolveTargets(routes, s.view, s.now)
	for server, want := range map[string]plan.Target{
		"a": {Held: plan.Down, Start: plan.Down},
		"b": {Held: plan.Leave, Start: plan.Up},
		"c": {Held: plan.Leave, Start: plan.Down},
	} {
		if got := targets["replica"][server]; got != want {
			t.Errorf("server %s is %+v, want %+v", server, got, want)
		}
	}
}

// TestR7OlderEventsChangeNothing: events may arrive late or twice; only their
// revisions order them.
func TestR7OlderEventsChangeNothing(t *testing.T) {
	s := begin().leads("a").confirms("a", true).leads("b").confirms("b", true)
	want := s.view
	if s.view.Observe("a", 101, 101, s.now) || s.view.Observe("b", want.Leader.Epoch, 1, s.now) {
		t.Error("an event at or below the present epoch was taken for news")
	}
	if s.view.ObservePrimary(observed.Primary{Member: "a", Epoch: 101, Sequence: 999, Writable: true}) {
		t.Error("a confirmation of an earlier epoch was taken for news")
	}
	if got := s.held(); got != "down up down" {
		t.Errorf("held %q after old events, want b up alone", got)
	}
}

// TestR2AtMostOneServerUp plays random histories: whatever happens, at most one
// server of a read-write route is ever asserted up, and only a member that the
// leader key names now and that was confirmed since it last began to lead.
func TestR2AtMostOneServerUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := begin()
		confirmedSince := "" // the leader, once confirmed in its present leadership
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			m := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "member")
			switch rapid.IntRange(0, 5).Draw(t, "event") {
			case 0, 1:
				if s.view.Last.Member != m {
					confirmedSince = ""
				}
				s.leads(m)
			case 2:
				s.leaderGone()
			case 3:
				if s.view.Leader.Member != "" { // the guard of the transaction
					s.confirms(s.view.Leader.Member, true)
					confirmedSince = s.view.Leader.Member
				}
			case 4:
				if s.view.Leader.Member != "" {
					s.confirms(s.view.Leader.Member, false)
					confirmedSince = ""
				}
			case 5:
				s.after(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			}
			up := 0
			targets, _ := plan.ResolveTargets(routes, s.view, s.now)
			for server, target := range targets["default"] {
				if target.Held != plan.Up {
					continue
				}
				up++
				if server != s.view.Leader.Member || server != confirmedSince {
					t.Fatalf("%s is up; leader %q, confirmed %q", server, s.view.Leader.Member, confirmedSince)
				}
			}
			if up > 1 {
				t.Fatalf("%d servers up", up)
			}
		}
	})
}
