package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/status"
)

// awaitRotations waits until the new passwords are in use and the former ones are no good.
func (a *app) awaitRotations(ctx context.Context, f *follower, cluster string, rs []rotation, rev int64, wait time.Duration, since time.Time) error {
	p := a.newProgress()
	left := slices.Clone(rs)
	server := true
	done, err := a.await(ctx, f, 0, wait, func(s kv.Snapshot) bool {
		left = slices.DeleteFunc(left, func(r rotation) bool {
			is := a.rotatedAlready(ctx, s, cluster, r, rev)
			if is && r.pair {
				p.came("%s: %s is in use, nobody can log in as %s", r.name, r.to.Role, r.from.Role)
			} else if is {
				p.came("%s: in force", r.name)
			}
			return is
		})
		p.waits(a.waitsForRotation(s, cluster))
		all := a.concerned(s, cluster)
		server = len(all) > 0 && all[0].Controller != ""
		return len(left) == 0 || !server && a.deps.Now().Sub(since) > min(serverPatience, wait)
	})
	p.end()
	switch {
	case err != nil:
		return err
	case len(left) == 0:
		a.note("applied in %d ms", a.deps.Now().Sub(since).Milliseconds())
		return nil
	case done:
		a.note("%s; it goes on when one does", observed.Meaning[observed.NoServer])
		a.note("  next: %s", a.err.bold("systemctl start pgctrl-server"))
		return exitCode(NotConverged)
	}
	a.note("%s after %d s; it goes on", a.err.yellow("not done"), int(wait.Seconds()))
	for _, s := range a.concerned(f.Snapshot(), cluster) {
		a.showConditions(a.Err, a.err, slices.DeleteFunc(s.Conditions, func(c status.Condition) bool {
			return c.Reason != observed.Rotating && !c.Blocking()
		}), false)
	}
	return exitCode(NotConverged)
}

func (a *app) waitsForRotation(s kv.Snapshot, cluster string) string {
	for _, c := range a.rotatingNow(s, cluster) {
		return c.Message
	}
	return a.waitingFor(a.concerned(s, cluster))
}

// rotatedAlready reports whether a rotation that was written at a revision is over.
func (a *app) rotatedAlready(ctx context.Context, s kv.Snapshot, cluster string, r rotation, rev int64) bool {
	l := a.settings.Layout
	logins := leadersLogins(s, l, cluster)
	in := slices.ContainsFunc(logins, func(said string) bool {
		return strings.HasPrefix(said, observed.Login(r.to.Role, rev, ""))
	})
	if !r.pair {
		return (in || r.name != secretAdmin) && inForceEverywhere(s, l, cluster, r.name, rev)
	}
	if !in || !slices.Contains(logins, observed.LoginClosed(r.from.Role)) {
		return false
	}
	// The former password goes last; nothing but secrets themselves say so.
	c, err := a.connect(ctx)
	if err != nil {
		return false
	}
	_, there, err := c.Get(ctx, l.Secret(cluster, r.from.Secret))
	return err == nil && !there
}

// leadersLogins is what the leader's agent says of who may log in.
func leadersLogins(s kv.Snapshot, l keys.Layout, cluster string) []string {
	leader, _ := s.Get(l.Leader(cluster))
	for _, e := range s.Range(l.Prefix(keys.Plan)) {
		ref, err := l.Parse(e.Key)
		if err != nil || ref.Cluster != cluster || ref.Concern != "databases" {
			continue
		}
		p, err := plan.ReadShort(e.Value)
		r, ok := observed.Read[observed.Report](s, l.ObservedKey(ref.Node, cluster, ref.Concern))
		if err == nil && ok && p.Cluster.Member == string(leader.Value) {
			return strings.Fields(r.Facts[observed.FactLogins])
		}
	}
	return nil
}

// inForceEverywhere reports whether every plan that names a secret does so at the
// revision, and has been answered. A node without an agent is not waited for.
func inForceEverywhere(s kv.Snapshot, l keys.Layout, cluster, name string, rev int64) bool {
	for _, e := range s.Range(l.Prefix(keys.Plan)) {
		ref, err := l.Parse(e.Key)
		if err != nil || ref.Cluster != cluster {
			continue
		}
		p, err := plan.ReadShort(e.Value)
		at, names := p.Secrets[name]
		if _, alive := s.Get(l.AliveKey(ref.Node)); err != nil || !names || !alive {
			continue
		}
		r, _ := observed.Read[observed.Report](s, l.ObservedKey(ref.Node, cluster, ref.Concern))
		c, said := r.Condition(observed.Applied)
		if at < rev || r.Plan != e.ModRevision || !said || c.Bad() && c.Reason != observed.PendingRestart {
			return false
		}
	}
	return true
}
