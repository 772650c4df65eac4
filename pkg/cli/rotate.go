package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// rotateWait is how long a rotation is waited for. It goes from node to node, and each
// Patroni shows that it has its file at the end of its loop: 45 s for everything on three
// small hosts.
const rotateWait = 2 * time.Minute

// The secrets that have no twin and are changed in place: that of the superuser, and that
// of Patroni's REST API.
const (
	secretAdmin = "postgres"
	secretREST  = "patroni"
)

func (a *app) secretRotate() *cobra.Command {
	var all bool
	wait := rotateWait
	c := &cobra.Command{
		Use: "rotate <cluster> <name>|--all", Short: "Give pgctrl's own roles new passwords",
		Long: `Gives a role that pgctrl's own programs log in as a new random password, without a
failed login: pooler, monitor, replicator, rewind. Each has a twin (pooler_b ...) that
exists from the first rotation on. The twin gets the new password; programs move to it,
node by node, once their PostgreSQL and that of every member that could lead has it; then
nobody can log in as the former role any more and its password is forgotten. The next
rotation goes back. What is logged in stays so. Where a member is down or replays late,
the former role stays open for it, and pgctrl status says so.

postgres is changed in place: it has no twin, because people use it. Who read the password
just before must read it again; for some seconds some ways in take the former one and some
the new one. So is patroni, the password of Patroni's REST API. While it goes from node to
node Patroni's members refuse each other's failsafe requests: a primary that loses etcd in
these seconds steps down. It is refused while the agent of a member is away.

The password of a user is changed by pgctrl user passwd.`,
		Example: "  pgctrl secret rotate pg-test pooler\n  pgctrl secret rotate pg-test --all",
		Args:    cobra.RangeArgs(1, 2), ValidArgsFunction: a.complete(completeClusters, completeRotating),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case all && len(args) == 2:
				return fail("expected a name or --all, not both. Nothing was written.")
			case !all && len(args) == 1:
				return fail("expected the name of a secret (%s), or --all. Nothing was written.", strings.Join(rotating(), ", ")).
					then("pgctrl secret list %s", args[0])
			}
			return a.rotate(cmd.Context(), args[0], args[1:], wait)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every secret of the cluster that is no user's")
	c.Flags().DurationVar(&wait, "wait", rotateWait, "how long to wait until it is so; 0 returns at once")
	return c
}

// rotating are the names that can be rotated.
func rotating() []string {
	var out []string
	for _, p := range twins.All {
		out = append(out, p.Name())
	}
	return append(out, secretAdmin, secretREST)
}

func completeRotating(*live, []string, string) []string { return rotating() }

// rotation is one secret that gets another value: in place, or as that of the other role
// of a pair.
type rotation struct {
	name     string
	pair     bool
	from, to twins.Role
}

func (r rotation) String() string {
	if r.pair {
		return fmt.Sprintf("%-10s  %s takes over from %s", r.name, r.to.Role, r.from.Role)
	}
	return fmt.Sprintf("%-10s  changed in place", r.name)
}

// rotate writes the new passwords and waits until nobody uses the former ones any more.
// No name means all.
func (a *app) rotate(ctx context.Context, cluster string, names []string, wait time.Duration) error {
	l, err := a.read(ctx, append([]keys.Family{keys.Secrets}, documentFamilies...)...)
	if err != nil {
		return err
	}
	if err := l.cluster(cluster); err != nil {
		return err
	}
	f, err := a.follow(ctx)
	if err != nil {
		return err
	}
	defer f.stop()
	c := change{scope: cluster, why: "rotate " + strings.Join(names, " "), secrets: map[string][]byte{}}
	var out []rotation
	var leftOut []string
	if len(names) == 0 {
		names, c.why = rotating(), "rotate --all"
		if absent := absentMembers(l, cluster); absent != "" {
			names = names[:len(names)-1] // patroni
			leftOut = append(leftOut, fmt.Sprintf("%s is left out: the agent of %s is away, and its Patroni would keep the former password", secretREST, absent))
		}
	}
	all := c.why == "rotate --all"
	for _, name := range names {
		if p, paired := twins.Of(name); all && paired && l.hasBoth(cluster, p) {
			leftOut = append(leftOut, fmt.Sprintf("%s is left out: a rotation of it is under way", name))
			continue
		}
		r, err := a.rotation(ctx, l, f.Snapshot(), cluster, name)
		if err != nil {
			return err
		}
		for _, s := range []string{r.from.Secret, r.to.Secret} {
			e, _ := l.Get(l.layout.Secret(cluster, s))
			c.guards = append(c.guards, store.ModIs(l.layout.Secret(cluster, s), e.ModRevision))
		}
		c.secrets[l.layout.Secret(cluster, r.to.Secret)] = newPassword()
		out = append(out, r)
	}
	since := a.deps.Now()
	rev, err := a.commit(ctx, l, c)
	if err != nil {
		return err
	}
	for _, r := range out {
		a.say("rotated  %s", r)
	}
	for _, note := range leftOut {
		a.note("%s", note)
	}
	if wait > 0 {
		err = a.awaitRotations(ctx, f, cluster, out, rev, wait, since)
	}
	if err == nil && len(leftOut) > 0 {
		return exitCode(NotConverged)
	}
	return err
}

// hasBoth reports whether a rotation of the pair is under way: the former role's password
// is there until nobody uses it.
func (l *live) hasBoth(cluster string, p twins.Pair) bool {
	for _, r := range p {
		if _, ok := l.Get(l.layout.Secret(cluster, r.Secret)); !ok {
			return false
		}
	}
	return true
}

// rotation says what rotating a name means now, or why it can't be.
func (a *app) rotation(ctx context.Context, l *live, s kv.Snapshot, cluster, name string) (rotation, error) {
	if user, is := strings.CutPrefix(name, keys.UserSecret("")); is {
		return rotation{}, fail("%s is a user's password, which %s's programs know. Nothing was written.", name, user).
			then("pgctrl user passwd %s %s", cluster, user)
	}
	has := func(name string) bool {
		_, ok := l.Get(l.layout.Secret(cluster, name))
		return ok
	}
	p, paired := twins.Of(name)
	switch {
	case paired && l.hasBoth(cluster, p):
		return rotation{}, a.underWay(s, cluster, p)
	case paired && has(p[0].Secret):
		return rotation{p.Name(), true, p[0], p[1]}, nil
	case paired && has(p[1].Secret):
		return rotation{p.Name(), true, p[1], p[0]}, nil
	case !paired && name != secretAdmin && name != secretREST:
		return rotation{}, fail("there is no secret %s to rotate (%s)%s Nothing was written.", name, oneOf(rotating()), endMeaning(name, rotating())).
			then("pgctrl secret list %s", cluster)
	case paired || !has(name):
		return rotation{}, a.noSecret(ctx, cluster, name)
	}
	if absent := absentMembers(l, cluster); name == secretREST && absent != "" {
		return rotation{}, fail("the agent of %s is away: its Patroni would keep the former password, and refuse the others' failsafe requests until it is back. Nothing was written.", absent).
			then("systemctl start pgagent (on %s)", strings.Split(absent, ", ")[0])
	}
	return rotation{name: name, from: twins.Role{Secret: name}, to: twins.Role{Role: name, Secret: name}}, nil
}

// underWay says what the last rotation of a pair waits for.
func (a *app) underWay(s kv.Snapshot, cluster string, p twins.Pair) error {
	for _, c := range a.rotatingNow(s, cluster) {
		if r, err := a.settings.Layout.Parse(c.Key); err == nil && (r.Doc == p[0].Secret || r.Doc == p[1].Secret) {
			f := fail("a rotation of %s is under way: %s. Nothing was written.", p.Name(), c.Message)
			if c.Next != "" {
				return f.then("%s", c.Next)
			}
			return f.then("pgctrl status %s", cluster)
		}
	}
	return fail("a rotation of %s is under way. Nothing was written.", p.Name()).then("pgctrl status %s", cluster)
}

// absentMembers are the nodes of members whose agent is away, with commas between.
func absentMembers(l *live, cluster string) string {
	var out []string
	for _, m := range desired.Load(l, l.layout, cluster, "members").MemberList() {
		if _, alive := l.alive(m.Node); !alive && !m.Absent() {
			out = append(out, m.Node)
		}
	}
	return strings.Join(out, ", ")
}

// rotatingNow are the conditions of rotations that are under way.
func (a *app) rotatingNow(s kv.Snapshot, cluster string) []observed.Condition {
	var out []observed.Condition
	for _, c := range a.concerned(s, cluster) {
		for _, cond := range c.Conditions {
			if cond.Reason == observed.Rotating {
				out = append(out, cond.Condition)
			}
		}
	}
	return out
}
