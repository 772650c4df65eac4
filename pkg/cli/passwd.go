package cli

import (
	"context"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// passwd writes a user's password and waits until the primary has it.
func (a *app) passwd(ctx context.Context, cluster, user string, p passwordFlags, wait time.Duration) error {
	l, err := a.read(ctx, documentFamilies...)
	if err != nil {
		return err
	}
	if err := l.cluster(cluster); err != nil {
		return err
	}
	docs := desired.Load(l, l.layout, cluster, "users")
	u, known := docs.Users[user]
	switch {
	case !known:
		return fail("cluster %s has no user %s with a document%s Nothing was written.", cluster, user, endMeaning(user, sortedKeys(docs.Users))).
			then("pgctrl user add %s %s", cluster, user)
	case u.Password == "none", !u.Login:
		return fail("user %s logs in without a password, as its document says. Nothing was written.", user).then("pgctrl get %s users/%s", cluster, user)
	}
	secret, err := a.password(p)
	if err != nil {
		return err
	}
	if secret == nil {
		secret = newPassword()
	}
	f, err := a.follow(ctx)
	if err != nil {
		return err
	}
	defer f.stop()
	since := a.deps.Now()
	name := keys.UserSecret(user)
	rev, err := a.commit(ctx, l, change{scope: cluster, why: "password of " + user, secrets: map[string][]byte{l.layout.Secret(cluster, name): secret}})
	if err != nil {
		return err
	}
	a.say("changed %s secret %s (revision %d)", cluster, name, rev)
	if wait <= 0 {
		return nil
	}
	done, err := a.await(ctx, f, 0, wait, func(s kv.Snapshot) bool { return hasPassword(s, l.layout, cluster, name, rev) })
	switch {
	case err != nil:
		return err
	case !done:
		a.note("not done after %d s; it goes on", int(wait.Seconds()))
		a.note("  next: %s", a.err.bold("pgctrl status "+cluster))
		return exitCode(NotConverged)
	}
	a.note("applied in %d ms", a.deps.Now().Sub(since).Milliseconds())
	return nil
}

// hasPassword reports whether the leader's node has answered a plan with the secret at
// that revision or a later one, and says nothing against the user, whose password is
// changed with all else of him or not at all.
func hasPassword(s kv.Snapshot, l keys.Layout, cluster, name string, rev int64) bool {
	p, r, answered := leadersAnswer(s, l, cluster)
	return answered && p.Secrets[name] >= rev && !r.Refuses(l.ClusterDoc(cluster, name))
}

// leadersAnswer is the plan of users and databases that the leader's node has, and its report
// on that very plan; false: there is none yet.
func leadersAnswer(s kv.Snapshot, l keys.Layout, cluster string) (plan.Short, observed.Report, bool) {
	leader, _ := s.Get(l.Leader(cluster))
	for _, e := range s.Range(l.Prefix(keys.Plan)) {
		ref, err := l.Parse(e.Key)
		if err != nil || ref.Cluster != cluster || ref.Concern != "databases" {
			continue
		}
		p, err := plan.ReadShort(e.Value)
		r, ok := observed.Read[observed.Report](s, l.ObservedKey(ref.Node, cluster, ref.Concern))
		if err == nil && ok && p.Cluster.Member == string(leader.Value) {
			return p, r, r.Plan == e.ModRevision
		}
	}
	return plan.Short{}, observed.Report{}, false
}
