package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// operation is what a command that acts on living members looked at: the leader it saw
// is the one under which every act takes place (R14).
type operation struct {
	cluster string
	status  status.ClusterStatus
	docs    *desired.Cluster
	formed  observed.Formed
	store   string
	// token is there once the command acts, and everything it asks for is under it.
	token *token
}

// look reads a cluster, whatever state it is in.
func (a *app) look(ctx context.Context, cluster string) (*live, operation, error) {
	o := operation{cluster: cluster}
	l, err := a.read(ctx, statusFamilies...)
	if err != nil {
		return nil, o, err
	}
	if err := l.cluster(cluster); err != nil {
		return l, o, err
	}
	o.status = status.Compute(a.input(l, cluster))
	o.docs = desired.Load(l, l.layout, cluster)
	o.formed, _ = observed.Read[observed.Formed](l, l.layout.FormedKey(cluster))
	rec, _ := observed.Read[observed.Store](l, l.layout.StoreKey())
	o.store = rec.Incarnation
	return l, o, nil
}

// lookInto is look, and refuses what can't be acted on now.
func (a *app) lookInto(ctx context.Context, cluster string) (*live, operation, error) {
	l, o, err := a.look(ctx, cluster)
	if err != nil {
		return l, o, err
	}
	next := "pgctrl status " + cluster
	switch {
	case o.status.Leader == "":
		return l, o, fail("nobody leads %s. Nothing was done.", cluster).then("%s", next)
	case o.status.Paused:
		return l, o, fail("Patroni of %s is paused. Nothing was done.", cluster).then("patronictl -c /etc/patroni/%s.yml resume (on a member's node)", cluster)
	}
	return l, o, nil
}

// member finds a member, with a near miss.
func (o operation) member(name string) (status.Member, error) {
	var names []string
	for _, m := range o.status.Members {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return status.Member{}, fail("cluster %s has no member %s%s Nothing was done.", o.cluster, name, endMeaning(name, names)).then("pgctrl status %s", o.cluster)
}

// eligible are the replicas, besides one, that could lead at this moment: their
// documents let them, and they follow the leader.
func (o operation) eligible(besides string) []string {
	var out []string
	for _, m := range o.status.Members {
		d := o.docs.Members[m.Name]
		if m.Name != besides && m.Name != o.status.Leader && m.Follows && d != nil && d.CanLead() && !d.Absent() {
			out = append(out, m.Name)
		}
	}
	return out
}

// keepsOne refuses what leaves nobody to lead after the leader, unless a person says so.
func (o operation) keepsOne(m status.Member, alone bool, again string) error {
	if alone || len(o.eligible(m.Name)) > 0 || !slices.Contains(o.eligible(""), m.Name) {
		return nil
	}
	return fail("%s is the only replica of %s that could lead: without it nothing takes over from %s (offline, delayed and failover_priority 0 don't count). Nothing was done.",
		m.Name, o.cluster, o.status.Leader).
		then("pgctrl add %s --on <node>", o.cluster).then("%s --alone (when it is meant all the same)", again)
}

// stepsOf are the steps that commands asked of the cluster, by whether they are over.
// Those of operations and hooks are the server's: it reads what came of them and clears them.
func (l *live) stepsOf(cluster string) (going, over []keys.Ref) {
	l.eachStep(cluster, func(ref keys.Ref, s plan.Step, final bool) {
		switch {
		case s.Operation != "", s.Act == plan.ActHook:
		case final:
			over = append(over, ref)
		default:
			going = append(going, ref)
		}
	})
	return going, over
}

func (l *live) eachStep(cluster string, f func(ref keys.Ref, s plan.Step, final bool)) {
	for _, e := range l.Range(l.layout.Prefix(keys.Steps)) {
		ref, err := l.layout.Parse(e.Key)
		s, err2 := observed.Decode[plan.Step](e)
		if err != nil || err2 != nil || s.Cluster != cluster {
			continue
		}
		r, answered := observed.Read[observed.StepResult](l, l.layout.ResultKey(ref.Node, ref.Doc))
		f(ref, s, answered && r.Final())
	}
}

// ready refuses a step while another one is going on, or its node's agent is away.
func (o operation) ready(l *live, ms []status.Member) error {
	if going, _ := l.stepsOf(o.cluster); len(going) > 0 {
		return fail("%s is going on on node %s. Nothing was done.", going[0].Doc, going[0].Node).
			then("pgctrl status %s", o.cluster).then("etcdctl del %s (when nobody waits for it any more)", l.layout.StepKey(going[0].Node, going[0].Doc))
	}
	for _, m := range ms {
		if _, alive := l.alive(m.Node); !alive {
			return fail("the agent of node %s is away, and only it can act on %s. Nothing was done.", m.Node, m.Name).then("pgagent status (on %s)", m.Node)
		}
	}
	return o.spares(l, ms)
}

// spares refuses to end a backup as a side effect: one that copies from a member of ms,
// and any when the leader is among them, which every backup talks to.
func (o operation) spares(l *live, ms []status.Member) error {
	touches := func(node string) bool {
		return slices.ContainsFunc(ms, func(m status.Member) bool { return m.Node == node || m.Name == o.status.Leader })
	}
	var err error
	l.eachStep(o.cluster, func(ref keys.Ref, s plan.Step, final bool) {
		if final || s.Act != plan.ActBackup || s.Operation == "" || !touches(ref.Node) {
			return
		}
		id := path.Base(s.Operation)
		err = fail("%s copies from %s, and this would end it. Nothing was done.", id, s.Member).
			then("pgctrl operation watch %s %s", o.cluster, id).then("pgctrl operation cancel %s %s", o.cluster, id)
	})
	return err
}

// begin takes the cluster's token and then looks again at what is going on: between the
// first look and now a person may have thought for a while.
func (a *app) begin(ctx context.Context, o *operation, act plan.Act, ms []status.Member) (*follower, error) {
	t, err := a.takeToken(ctx, o.cluster, act)
	if err != nil {
		return nil, err
	}
	o.token = t
	f, err := a.follow(ctx)
	if err == nil {
		err = o.ready(&live{Snapshot: f.Snapshot(), layout: a.settings.Layout}, ms)
	}
	if err != nil {
		t.release(ctx)
		return nil, err
	}
	return f, nil
}

// end gives back what begin took.
func (o *operation) end(ctx context.Context, f *follower) {
	f.stop()
	o.token.release(ctx)
}

// perform asks a node for one act and waits for what comes of it.
func (a *app) perform(ctx context.Context, f *follower, o operation, act plan.Act, m status.Member, pending bool, p *progress) (observed.StepResult, error) {
	l := &live{Snapshot: f.Snapshot(), layout: a.settings.Layout}
	client, err := a.connect(ctx)
	if err != nil {
		return observed.StepResult{}, err
	}
	id := keys.StepID(o.cluster, fmt.Sprintf("%s-%s", act, strconv.FormatInt(a.deps.Now().UnixMilli(), 36)), 1)
	key, result := l.layout.StepKey(m.Node, id), l.layout.ResultKey(m.Node, id)
	s := plan.Step{
		Schema: plan.SchemaOf(act), Act: act, Cluster: o.cluster, Member: m.Name, Store: o.store, UID: o.formed.UID,
		Epoch: plan.Epoch(o.status.Epoch), Pending: pending, By: whoami(a.deps.Getenv),
	}
	ops := []store.Op{store.Put(key, observed.Encode(s))}
	_, over := l.stepsOf(o.cluster)
	for _, old := range over { // left by a command that was interrupted
		ops = append(ops, store.Delete(l.layout.StepKey(old.Node, old.Doc)), store.Delete(l.layout.ResultKey(old.Node, old.Doc)))
	}
	_, err = client.Commit(ctx, []store.Guard{store.ModIs(key, 0), o.token.Guard(), store.ModIs(l.layout.Leader(o.cluster), o.status.Epoch)}, ops)
	if o.token.lost(err) {
		return observed.StepResult{}, fail("this command was away for longer than %s and others may disrupt %s by now. %s was not asked for.", tokenTTL, o.cluster, act).
			then("pgctrl status %s", o.cluster)
	}
	if errors.Is(err, store.ErrConflict) {
		return observed.StepResult{}, fail("the leader of %s changed after it was looked at. Nothing was done.", o.cluster).then("pgctrl status %s", o.cluster)
	}
	if err != nil {
		return observed.StepResult{}, err
	}
	r, err := a.awaitStep(ctx, f, result, p)
	if err != nil || !r.Final() {
		return r, err
	}
	_, err = client.Commit(ctx, nil, []store.Op{store.Delete(key), store.Delete(result)})
	return r, err
}

// awaitStep waits for a result until ctx ends; then it is the last one there was.
func (a *app) awaitStep(ctx context.Context, f *follower, key string, p *progress) (observed.StepResult, error) {
	said := ""
	for {
		r, ok := observed.Read[observed.StepResult](f.Snapshot(), key)
		if ok && r.Final() {
			return r, nil
		}
		if ok && r.Message != said {
			said = r.Message
			p.came("%s", said)
		}
		select {
		case <-f.poke:
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return r, nil
			}
			return r, ctx.Err()
		}
	}
}

// came of a step: nil when it is done.
func (o operation) came(r observed.StepResult, m status.Member, limit time.Duration) error {
	switch r.State {
	case observed.StepDone:
		return nil
	case observed.StepRefused:
		return fail("the agent of %s refused: %s. Nothing was done.", m.Node, r.Message).then("%s", r.Next)
	case observed.StepFailed:
		return fail("%s on %s: %s", m.Name, m.Node, r.Message).then("%s", r.Next)
	}
	return fail("%s was not done within %s; it goes on", m.Name, limit).then("pgctrl status %s --watch", o.cluster)
}
