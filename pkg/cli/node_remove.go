package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// removeNode deletes a node's document and what is left of it in etcd.
func (a *app) removeNode(ctx context.Context, name string, lost bool, typed string, w writeFlags) error {
	l, err := a.read(ctx, append([]keys.Family{keys.Plan, keys.Observed, keys.PatroniKey}, documentFamilies...)...)
	if err != nil {
		return err
	}
	key := l.layout.Node(name)
	plans := l.Range(l.layout.NodePlans(name))
	if _, ok := l.Get(key); !ok && len(plans) == 0 {
		return fail("no node %s%s", name, didYouMean(name, l.documents(scopeNodes))).then("pgctrl node list")
	}
	c := change{scope: scopeNodes, writes: map[string][]byte{}, why: w.reason}
	if _, ok := l.Get(key); ok {
		c.writes[key] = nil
	}
	members := planned(l, name)
	// Looked at by text, too: a member whose document can't be read is on a node all the same.
	for _, m := range membersOn(l, name) {
		if !slices.Contains(members, m) {
			members = append(members, m)
		}
	}
	slices.Sort(members)
	if err := a.mayForget(l, name, members, lost); err != nil {
		return err
	}
	// It was not there when that was decided, and must not be when it is written.
	c.guards = append(c.guards, aliveGuard(l, name))
	for _, m := range members {
		cluster, member, _ := strings.Cut(m, "/")
		if doc := l.layout.ClusterDoc(cluster, "members/"+member); has(l, doc) {
			c.writes[doc] = nil
		}
	}
	if err := c.judge(l); err != nil {
		return err
	}
	if lost && !w.dryRun {
		if len(members) > 0 {
			a.say("node %s is gone for good, and with it %s", name, oneOf(members))
		}
		if err := a.confirmed(name, typed); err != nil {
			return err
		}
	}
	if err := a.writeNode(ctx, l, c, w, name, "remove", "removed"); err != nil {
		return err
	}
	if _, alive := l.alive(name); alive {
		return nil // what its agent has was looked at: nothing
	}
	return a.forgetNode(ctx, name)
}

// A controller that has seen the plans go and not yet the document writes them once
// more, so they are looked for again after a moment.
const (
	forgetTries = 10
	forgetPause = 300 * time.Millisecond
)

// forgetNode deletes the plans, reports and moves of a node that is no more.
func (a *app) forgetNode(ctx context.Context, name string) error {
	client, err := a.connect(ctx)
	if err != nil {
		return err
	}
	layout := a.settings.Layout
	guards := []store.Guard{store.ModIs(layout.Node(name), 0), store.ModIs(layout.AliveKey(name), 0)}
	for try, clean := 0, 0; try < forgetTries && clean < 2; try++ {
		var ops []store.Op
		for _, prefix := range []string{layout.NodePlans(name), layout.NodeObserved(name), layout.NodeMoves(name)} {
			es, _, err := client.List(ctx, prefix)
			if err != nil {
				return err
			}
			for _, e := range es {
				ops = append(ops, store.Delete(e.Key))
			}
		}
		clean++
		for len(ops) > 0 {
			n := min(len(ops), store.MaxOps)
			if _, err := client.Commit(ctx, guards, ops[:n]); err != nil {
				return fmt.Errorf("delete plans of node %s: %w", name, err)
			}
			ops, clean = ops[n:], 0
		}
		select {
		case <-time.After(forgetPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func has(l *live, key string) bool {
	_, ok := l.Get(key)
	return ok
}

// aliveGuard holds while the node's presence is as it was looked at.
func aliveGuard(l *live, node string) store.Guard {
	e, _ := l.Get(l.layout.AliveKey(node))
	return store.ModIs(l.layout.AliveKey(node), e.ModRevision)
}

// planned are the members that a node has plans for, as cluster/member.
func planned(l *live, node string) []string {
	var out []string
	for _, e := range l.Range(l.layout.NodePlans(node)) {
		p, err := plan.Decode(e.Value)
		if ref, rerr := l.layout.Parse(e.Key); err == nil && rerr == nil && ref.Concern == "postgres" && p.Cluster.Member != "" {
			out = append(out, ref.Cluster+"/"+p.Cluster.Member)
		}
	}
	return out
}

// mayForget refuses while anything may be on the host.
func (a *app) mayForget(l *live, name string, members []string, lost bool) error {
	_, alive := l.alive(name)
	switch {
	case lost && alive:
		return fail("the agent of node %s is there, so the host is not lost. Nothing was written.", name).then("pgagent leave (on %s)", name)
	case !lost && len(members) > 0:
		f := fail("node %s runs %s. Nothing was written.", name, oneOf(members))
		for _, m := range members {
			cluster, member, _ := strings.Cut(m, "/")
			f.then("pgctrl remove %s %s", cluster, member)
		}
		if !alive {
			f.then("pgctrl node remove %s --lost (when the host never comes back)", name)
		}
		return f
	case alive && len(l.Range(l.layout.NodePlans(name))) > 0:
		return fail("the agent of node %s runs, and there is something of ours on it. Nothing was written.", name).then("pgagent leave (on %s)", name)
	}
	for _, m := range members {
		cluster, member, _ := strings.Cut(m, "/")
		if e, ok := l.Get(l.layout.Leader(cluster)); ok && string(e.Value) == member {
			return fail("%s on node %s leads %s, so the host lives. Nothing was written.", member, name, cluster).then("pgctrl status %s", cluster)
		}
		if has(l, l.layout.Members(cluster)+member) {
			return fail("Patroni's key of %s on node %s has not expired, so the host lives. Nothing was written.", member, name).then("pgctrl status %s", cluster)
		}
		if only(l, cluster, member) {
			return fail("%s is the last member of %s. Nothing was written.", member, cluster).
				then("pgctrl status %s (its data may still be on that host's disk)", cluster)
		}
	}
	return nil
}

// only reports a member without which its cluster has none.
func only(l *live, cluster, member string) bool {
	for _, m := range desired.Load(l, l.layout, cluster, "members").MemberList() {
		if m.Name != member && !m.Absent() {
			return false
		}
	}
	return true
}

// leftBehind says what a node's removal leaves to do on it.
func leftBehind(name string) string {
	return fmt.Sprintf("its agent is there still; next, on %s: pgagent leave", name)
}
