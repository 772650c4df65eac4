package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func hostsPlan() plan.Plan {
	return plan.Plan{
		Schema: plan.SchemaFiles, Store: "s1", UID: "u1",
		Cluster: plan.Cluster{Name: "c", Members: []plan.Member{
			{Name: "a", Address: "10.0.0.1"}, {Name: "b", Address: "10.0.0.2"}, {Name: "d", Address: "10.0.0.4"}, {Name: "o", Address: "10.0.0.5"},
		}},
		Resources: plan.Resources{plan.Watched{
			File: "/etc/pgctrl/hosts.d/c", Mode: "0644", Content: "{{primary.address}} c {{primary.name}}\n", Replicas: []string{"c-replica"}, From: []string{"a", "b", "d"},
		}},
	}
}

// watched is a view in which a leads at epoch 5 and everybody runs.
func watchedView(now time.Time) plan.View {
	v := plan.View{Store: "s1", UID: "u1", Known: true, FreshAt: now, Members: map[string]patroni.Member{}}
	for _, m := range []string{"a", "b", "d", "o"} {
		v.Members[m] = patroni.Member{State: "running"}
	}
	v.Observe("a", 5, 0, now)
	return v
}

func resolved(t *testing.T, v plan.View, now time.Time) (content string, why observed.Reason) {
	t.Helper()
	apply, drop, cs := plan.Resolve(hostsPlan(), v, now)
	switch {
	case len(drop) > 0 || len(apply)+len(cs) != 1:
		t.Fatalf("apply %v, drop %v, why %v", apply, drop, cs)
	case len(cs) > 0:
		return "", cs[0].Reason
	}
	w := apply[0].(plan.Watched)
	if w.Replicas != nil || strings.Contains(w.Content, "{{") {
		t.Errorf("not resolved: %+v", w)
	}
	return w.Content, ""
}

// TestR1NamesFollowTheConfirmedPrimary: the file of hosts says who is confirmed and
// nobody else; in between it is left as it is or says the same as before.
func TestR1NamesFollowTheConfirmedPrimary(t *testing.T) {
	now := time.Unix(1000, 0)
	v := watchedView(now)
	expect := func(what, content string, why observed.Reason) {
		t.Helper()
		if got, reason := resolved(t, v, now); got != content || reason != why {
			t.Errorf("%s: %q %s, want %q %s", what, got, reason, content, why)
		}
	}
	const ofA = "10.0.0.1 c a\n10.0.0.2 c-replica\n10.0.0.4 c-replica\n"
	expect("a leads and is not confirmed", "", observed.NotConfirmed)
	v.ObservePrimary(observed.Primary{Member: "a", Epoch: 5, Sequence: 1, Writable: true, UID: "u1"})
	expect("a is confirmed", ofA, "")
	v.Observe("", 6, 0, now)
	expect("nobody leads", ofA, "")
	v.Observe("b", 7, 0, now)
	expect("b leads and is not confirmed", "10.0.0.1 c a\n10.0.0.4 c-replica\n", "")
	now = now.Add(time.Hour)
	expect("etcd is away since", "10.0.0.1 c a\n10.0.0.4 c-replica\n", "")
	v.FreshAt = now
	v.ObservePrimary(observed.Primary{Member: "b", Epoch: 7, Sequence: 1, Writable: true, UID: "u1"})
	expect("b is confirmed", "10.0.0.2 c b\n10.0.0.1 c-replica\n10.0.0.4 c-replica\n", "")
	v.ObservePrimary(observed.Primary{Member: "b", Epoch: 7, Sequence: 2, UID: "u1"})
	expect("b withdrew", "", observed.NotConfirmed)
	v.Known = false
	expect("etcd was never read", "", observed.StaleView)
}

func TestOnlyServingReplicasHaveTheName(t *testing.T) {
	now := time.Unix(1000, 0)
	v := watchedView(now)
	v.ObservePrimary(observed.Primary{Member: "a", Epoch: 5, Sequence: 1, Writable: true, UID: "u1"})
	v.Members["b"] = patroni.Member{State: "starting"}
	v.Members["d"] = patroni.Member{State: "running", Tags: map[string]any{"noloadbalance": true}}
	if got, _ := resolved(t, v, now); got != "10.0.0.1 c a\n" {
		t.Errorf("got %q", got)
	}
}

func TestWatchedIsEncodedAndRemoved(t *testing.T) {
	p := hostsPlan()
	got, err := plan.Decode(plan.Encode(p))
	if d := cmp.Diff(p, got); err != nil || d != "" {
		t.Errorf("decoded %v:\n%s", err, d)
	}
	v := watchedView(time.Unix(1000, 0))
	p.Cluster.Member = "a" // who leads may lose a file all the same
	_, drop, why := plan.Resolve(plan.Removes(p, plan.Removal{}), v, time.Unix(1000, 0))
	if d := cmp.Diff([]plan.Resource{plan.Watched{File: "/etc/pgctrl/hosts.d/c"}}, drop); d != "" || len(why) > 0 {
		t.Errorf("removal: %v\n%s", why, d)
	}
}

// TestR1RolesFollowTheConfirmation: labels change when another member is confirmed, and
// at no moment in between.
func TestR1RolesFollowTheConfirmation(t *testing.T) {
	now := time.Unix(1000, 0)
	v := watchedView(now)
	p := hostsPlan()
	p.Resources = plan.Resources{plan.Watched{File: "/x", Content: plan.RoleOf("a") + " " + plan.RoleOf("b")}}
	if !plan.FollowsLeader(p) {
		t.Error("a file with roles follows nobody")
	}
	expect := func(what, want string) {
		t.Helper()
		apply, _, why := plan.Resolve(p, v, now)
		if len(apply) != 1 || len(why) != 0 || apply[0].(plan.Watched).Content != want {
			t.Errorf("%s: %v, %v, want %s", what, apply, why, want)
		}
	}
	confirm := func(member string, epoch int64, writable bool) {
		v.ObservePrimary(observed.Primary{Member: member, Epoch: epoch, Sequence: epoch*10 + int64(len(member)), Writable: writable, UID: "u1", Store: "s1"})
	}
	expect("a leads and is not confirmed", "unknown unknown")
	confirm("a", 5, true)
	expect("a is confirmed", "primary replica")
	v.ObservePrimary(observed.Primary{Member: "a", Epoch: 5, Sequence: 99, UID: "u1", Store: "s1"})
	expect("a withdrew: a restart, or the begin of a move", "primary replica")
	v.Observe("", 6, 0, now)
	expect("nobody leads", "primary replica")
	v.Observe("b", 7, 0, now)
	expect("b leads and is not confirmed", "primary replica")
	confirm("b", 7, true)
	expect("b is confirmed", "replica primary")
	v.Known = false
	if apply, _, why := plan.Resolve(p, v, now); len(apply) != 0 || len(why) != 1 || why[0].Reason != observed.StaleView {
		t.Errorf("etcd was never read: %v, %v", apply, why)
	}
}
