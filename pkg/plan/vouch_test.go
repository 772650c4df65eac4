package plan_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// proven is what this node finds out now about the leader, whose lease lasts for left.
func (s *story) proven(left time.Duration) *story {
	s.view.Attended = true
	s.view.Proof = plan.Proof{
		Member: s.view.Leader.Member, AnsweredAt: s.now,
		Lease: plan.LeaseReading{Lease: s.view.Leader.Lease, AskedAt: s.now, Left: left},
	}
	return s
}

// TestFreshProofOutranksSilentChecks: every part of the proof must be there and fresh.
func TestFreshProofOutranksSilentChecks(t *testing.T) {
	primary := func() *story { return begin().leads("a").confirms("a", true).after(time.Minute) }
	change := func(s *story, f func(*plan.View)) *story { f(&s.view); return s }
	for _, tc := range []struct {
		name string
		s    *story
		want string
	}{
		{"nothing is proven", primary(), "up down down"},
		{"proven", primary().proven(30 * time.Second), "vouch down down"},
		{"for as long as checks have the time to take it down before another can lead", primary().proven(30 * time.Second).after(2 * time.Second).proven(10100 * time.Millisecond), "vouch down down"},
		{"no longer", primary().proven(10 * time.Second), "up down down"},
		{"a lease's reading gets old", primary().proven(12 * time.Second).after(2 * time.Second), "up down down"},
		{"its PostgreSQL has not answered lately", primary().proven(30 * time.Second).after(2600 * time.Millisecond), "up down down"},
		{"the view is stale: checks decide", primary().proven(30 * time.Second).blindFor(3100 * time.Millisecond), "leave leave leave"},
		{"its own agent is away and could not withdraw it", change(primary().proven(30*time.Second), func(v *plan.View) { v.Attended = false }), "up down down"},
		{"withdrawn", primary().proven(30*time.Second).confirms("a", false), "down down down"},
		{"the leader key is gone", primary().proven(30 * time.Second).leaderGone(), "leave down down"},
		{"another leads", primary().proven(30 * time.Second).leads("b").after(2 * time.Second), "down down down"},
		{"another is confirmed: proof of the one before counts for nothing", primary().proven(30*time.Second).leads("b").confirms("b", true), "down up down"},
		{"the same Patroni led before, with another in between", primary().proven(30*time.Second).leads("b").leads("a").confirms("a", true), "up down down"},
		{"a reading of another lease", change(primary().proven(30*time.Second), func(v *plan.View) { v.Proof.Lease.Lease++ }), "up down down"},
		{"not confirmed", begin().leads("a").proven(30 * time.Second), "down down down"},
		{"a standby cluster", change(primary().proven(30*time.Second), func(v *plan.View) { v.StandbyCluster = true }), "down down down"},
		{"Patroni is paused: its own rule", primary().proven(30 * time.Second).paused(), "insist down down"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.s.held(); got != tc.want {
				t.Errorf("held %q, want %q", got, tc.want)
			}
		})
	}
}

// TestVouchingIsNoEdge: it begins and ends without anything being said anew.
func TestVouchingIsNoEdge(t *testing.T) {
	of := func(v plan.Verdict) plan.Targets { return plan.Targets{"primary": {"a": {Held: v, Start: plan.Up}}} }
	if !of(plan.Up).Same(of(plan.Vouch)) || of(plan.Up).Same(of(plan.Insist)) || of(plan.Up).Same(of(plan.Down)) || of(plan.Up).Same(nil) {
		t.Error("vouching for a server is an edge, or something else is none")
	}
}
