package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// awaitRemoval waits until no host has anything of it, says what comes about, and
// then clears what only people's commands may: documents and Patroni's keys.
func (a *app) awaitRemoval(ctx context.Context, f *follower, r removal, rev int64, limit time.Duration) error {
	p := a.newProgress()
	var last status.ClusterStatus
	said := map[string]bool{}
	// A report lives only until its plan's key is gone, which may be a millisecond.
	heard := make(chan string, 1000)
	f.OnChange(func(_ int64, cs []store.Change) {
		for _, c := range cs {
			if c.New == nil {
				continue
			}
			if line := r.removedBy(a.settings.Layout, *c.New); line != "" {
				select {
				case heard <- line:
				default: // nobody reads that many
				}
			}
		}
	})
	tell := func() {
		for {
			select {
			case line := <-heard:
				if !said[line] {
					p.came("%s", line)
				}
				said[line] = true
			default:
				return
			}
		}
	}
	done, err := a.await(ctx, f, rev, limit, func(s kv.Snapshot) bool {
		l := &live{Snapshot: s, layout: a.settings.Layout}
		tell()
		left := r.left(l)
		last = status.Compute(a.input(s, r.cluster))
		p.waits(a.waitingFor([]status.ClusterStatus{last}))
		return len(left) == 0
	})
	tell()
	p.end()
	switch {
	case err != nil:
		return err
	case !done:
		a.note("%s after %s; it goes on. Run the command again to see it to its end", a.err.yellow("not done"), limit)
		a.showConditions(a.Err, a.err, last.Conditions, true)
		return exitCode(NotConverged)
	}
	if err := a.clear(ctx, f, r); err != nil {
		return err
	}
	if r.member == "" {
		if err := a.awaitForgotten(ctx, f, r); err != nil {
			return err
		}
	}
	a.say("removed  %s in %d ms", r.name(), a.deps.Now().Sub(a.start).Milliseconds())
	return nil
}

// forgetWait is how long a server may take to see that a cluster's documents are gone;
// it is milliseconds, or there is none that leads.
const forgetWait = 10 * time.Second

// awaitForgotten waits until the server has taken the cluster's status away. It does so
// itself, because it writes the status for as long as it knows of documents: deleted by
// somebody else, it might come again.
func (a *app) awaitForgotten(ctx context.Context, f *follower, r removal) error {
	key := a.settings.Layout.StatusKey(r.cluster)
	gone, err := a.await(ctx, f, 0, forgetWait, func(s kv.Snapshot) bool {
		_, left := s.Get(key)
		return !left
	})
	switch _, formed := f.Snapshot().Get(a.settings.Layout.FormedKey(r.cluster)); {
	case err != nil || gone:
		return err
	case formed: // by a server that had not seen yet that it was to go
		return fail("%s formed in the moment in which its documents went", r.cluster).then("pgctrl remove %s", r.cluster)
	}
	a.note("%s is left; the next server that leads takes it away", key)
	return nil
}

// removedBy is what an agent's report says it did; empty when it is no such report.
func (r removal) removedBy(layout keys.Layout, e kv.KV) string {
	ref, err := layout.Parse(e.Key)
	if err != nil || ref.Family != keys.Observed || ref.Cluster != r.cluster || r.node != "" && ref.Node != r.node {
		return ""
	}
	rep, err := observed.Decode[observed.Report](e)
	if err != nil {
		return ""
	}
	if c, ok := rep.Condition(observed.Applied); ok && c.Reason == observed.Removed {
		return ref.Node + ": " + c.Message
	}
	return ""
}

// left are the keys that say that something is still on a host.
func (r removal) left(l *live) []string {
	var out []string
	for _, e := range l.Range(l.layout.Prefix(keys.Plan)) {
		ref, err := l.layout.Parse(e.Key)
		if err != nil || ref.Cluster != r.cluster {
			continue
		}
		if r.member == "" || ref.Node == r.node && (ref.Concern == "postgres" || ref.Concern == "vip") {
			out = append(out, e.Key)
		}
	}
	if r.member != "" {
		if _, ok := l.Get(l.layout.Members(r.cluster) + r.member); ok {
			out = append(out, l.layout.Members(r.cluster)+r.member)
		}
		return out
	}
	for _, e := range l.Range(l.layout.Scope(r.cluster)) {
		if e.Lease != 0 { // a Patroni lives
			out = append(out, e.Key)
		}
	}
	if _, ok := l.Get(l.layout.FormedKey(r.cluster)); ok {
		out = append(out, l.layout.FormedKey(r.cluster))
	}
	return out
}

// clear deletes what is left of it in etcd, while it is certain that no host has
// anything: for a member its document; for a cluster all, the document that says so
// last, so that an interrupted clearing is taken up again.
func (a *app) clear(ctx context.Context, f *follower, r removal) error {
	l := &live{Snapshot: f.Snapshot(), layout: a.settings.Layout}
	client, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if r.member != "" {
		key := l.layout.ClusterDoc(r.cluster, "members/"+r.member)
		c := change{scope: r.cluster, writes: map[string][]byte{key: nil}, why: "removed"}
		c.guards = []store.Guard{store.ModIs(l.layout.PlanKey(r.node, r.cluster, "postgres"), 0)}
		if _, err := a.commit(ctx, l, c); err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		} else if err != nil {
			return fail("%s was removed; its document was changed meanwhile and stays", r.member).then("pgctrl get %s members/%s", r.cluster, r.member)
		}
		return nil
	}
	guards := []store.Guard{store.ModIs(l.layout.FormedKey(r.cluster), 0), store.ModIs(l.layout.Leader(r.cluster), 0)}
	// Agents delete their moves themselves; what is left is of nodes that are gone. How far hooks
	// are goes last: a server may write it for as long as their documents are there.
	before, err := a.ofCluster(ctx, client, r.cluster, keys.Moves, keys.Verdicts)
	if err != nil {
		return err
	}
	after, err := a.ofCluster(ctx, client, r.cluster, keys.Deliveries)
	if err != nil {
		return err
	}
	// Secrets that a server made it deletes; what hooks sign with people have set.
	secrets, _, err := client.ListKeys(ctx, l.layout.ClusterSecrets(r.cluster))
	if err != nil {
		return a.unreachable(err)
	}
	for _, key := range secrets {
		if strings.HasPrefix(key, l.layout.Secret(r.cluster, keys.HookSecret(""))) {
			after = append(after, store.Delete(key))
		}
	}
	ops := slices.Concat(before, r.clearing(l), after)
	for len(ops) > 0 {
		n := min(len(ops), store.MaxOps)
		_, err := client.Commit(ctx, guards, ops[:n])
		if errors.Is(err, store.ErrConflict) {
			return fail("%s is removed from every host, and something began to use its name again; what is left in etcd stays", r.cluster).then("pgctrl status %s", r.cluster)
		}
		if err != nil {
			return fmt.Errorf("clear what is left of %s: %w", r.cluster, err)
		}
		ops = ops[n:]
	}
	return nil
}

// ofCluster lists the deletions of a cluster's keys of families that no view holds.
func (a *app) ofCluster(ctx context.Context, client *store.Client, cluster string, families ...keys.Family) (ops []store.Op, err error) {
	l := a.settings.Layout
	for _, f := range families {
		found, _, err := client.List(ctx, l.Prefix(f))
		if err != nil {
			return nil, a.unreachable(err)
		}
		for _, e := range found {
			if ref, err := l.Parse(e.Key); err == nil && ref.Cluster == cluster {
				ops = append(ops, store.Delete(e.Key))
			}
		}
	}
	return ops, nil
}

// clearing lists the deletions of a cluster that is gone, its documents last and
// among them the one that says so. No range is deleted: each key was seen. Its status
// goes by the server that writes it, see awaitForgotten.
func (r removal) clearing(l *live) []store.Op {
	var list []string
	for _, e := range l.Range(l.layout.Scope(r.cluster)) {
		list = append(list, e.Key)
	}
	for _, f := range []keys.Family{
		keys.Primary, keys.VIP, keys.Hold, keys.Ready, keys.Observed, keys.Changes, keys.Operations, keys.Steps, keys.Results,
	} {
		for _, e := range l.Range(l.layout.Prefix(f)) {
			if ref, err := l.layout.Parse(e.Key); err == nil && ref.Cluster == r.cluster {
				list = append(list, e.Key)
			}
		}
	}
	says := l.layout.ClusterDoc(r.cluster, "postgres")
	docs := l.Range(l.layout.ClusterDocs(r.cluster))
	slices.SortStableFunc(docs, func(x, y kv.KV) int {
		switch {
		case x.Key == says:
			return 1
		case y.Key == says:
			return -1
		}
		return strings.Compare(x.Key, y.Key)
	})
	for _, e := range docs {
		list = append(list, e.Key)
	}
	var ops []store.Op
	for _, key := range list {
		ops = append(ops, store.Delete(key))
	}
	return ops
}
