package agent

import (
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// More than flapTerms leaderships within flapWindow is LeaderFlapping (ROLES section 1).
const (
	flapTerms  = 3
	flapWindow = 10 * time.Second
	// identityGrace is how long a member key may lag behind the leader key before
	// the mismatch is called a duplicate: Patroni writes the two one after the other.
	identityGrace = time.Second
)

// impostor says why the leader key, although it names m, was not written by the
// Patroni that the plan places at m's address; empty when nothing contradicts it.
// A second Patroni under one name with an empty data directory deleted the leader
// key about 50 times in 7 s (measured): a name alone proves nothing.
//
// strict wants the member key to exist; the leader's own agent insists on it.
func impostor(v plan.View, m plan.Member, strict bool) string {
	key, ok := v.Members[m.Name]
	switch {
	case !ok && strict:
		return fmt.Sprintf("the leader key names %s, which has no member key", m.Name)
	case !ok:
		return ""
	case key.Lease != v.Leader.Lease:
		return fmt.Sprintf("the leader key names %s under lease %x, its member key has lease %x", m.Name, v.Leader.Lease, key.Lease)
	case hostOf(key.APIURL) != restAddress(m):
		return fmt.Sprintf("the Patroni that calls itself %s answers at %s, the plan places it at %s", m.Name, hostOf(key.APIURL), restAddress(m))
	}
	return ""
}

// restamped reports whether the keys differ in nothing but their leases: so they do
// for a moment when Patroni takes a new lease, as for another ttl.
func restamped(v plan.View, m plan.Member) bool {
	key, ok := v.Members[m.Name]
	return ok && key.Lease != v.Leader.Lease && hostOf(key.APIURL) == restAddress(m)
}

// leaderNext is when leaderConditions may say something else although nothing
// happened.
func leaderNext(s state, now time.Time) time.Duration {
	next := DriftEvery
	ends := []time.Time{s.leaderAt.Add(identityGrace)}
	if n := len(s.terms); n > flapTerms {
		ends = append(ends, s.terms[n-1-flapTerms].Add(flapWindow))
	}
	for _, at := range ends {
		if left := at.Sub(now); left >= 0 {
			next = min(next, left+time.Millisecond)
		}
	}
	return next
}

// leaderConditions are what the leader and member keys give away about this
// node's own member. They change no decision here; people read them.
func leaderConditions(s state, own plan.Member, now time.Time) []observed.Condition {
	var out []observed.Condition
	if n := len(s.terms); n > flapTerms && now.Sub(s.terms[n-1-flapTerms]) <= flapWindow {
		out = append(out, observed.Condition{
			Type: observed.Healthy, Status: observed.False, Reason: observed.LeaderFlapping,
			Message: fmt.Sprintf("leadership was taken more than %d times in %s", flapTerms, flapWindow),
		})
	}
	key, ok := s.view.Members[own.Name]
	if !ok || own.Name == "" {
		return out
	}
	duplicate := hostOf(key.APIURL) != restAddress(own)
	if s.view.Leader.Member == own.Name && now.Sub(s.leaderAt) > identityGrace {
		duplicate = duplicate || key.Lease != s.view.Leader.Lease
	}
	if duplicate {
		out = append(out, observed.Condition{
			Type: observed.Healthy, Status: observed.False, Reason: observed.DuplicateMember,
			Message: fmt.Sprintf("a Patroni at %s also calls itself %s, which belongs to %s", hostOf(key.APIURL), own.Name, restAddress(own)),
		})
	}
	if key.Version != "" && patroni.ParseVersion(key.Version).Less(patroni.OldestSafe) {
		// True: the cluster works, and a distribution ships this version. People should
		// know, nothing should wait for it.
		out = append(out, observed.Condition{
			Type: observed.Healthy, Status: observed.True, Reason: observed.PatroniTooOld,
			Message: "Patroni " + key.Version + ": " + observed.Meaning[observed.PatroniTooOld],
		})
	}
	return out
}
