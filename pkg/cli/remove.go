package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/internal/typed"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

// removeWait is how long remove waits: Patroni's key of a stopped member lives for
// up to ttl (30 s) longer.
const removeWait = 3 * time.Minute

func (a *app) removeCommand() *cobra.Command {
	var w writeFlags
	var typed string
	var alone, override bool
	c := &cobra.Command{
		Use: "remove <cluster> [<member>]", Short: "Remove a member or a whole cluster; the data stay on their hosts",
		Long: `Looks at who leads, shows what goes and what is kept, and asks for the name to be
typed (or takes it from --confirm). A member is taken out of the routes, stopped and
disabled; its data directory is renamed and kept. The leader is refused: move it
first. A cluster goes with its services, members, passwords and Patroni's keys.
Run again, it goes on where it was interrupted.`,
		Example: `  pgctrl remove pg-test pg-test-3
  pgctrl remove pg-test --dry-run
  pgctrl remove pg-test --confirm pg-test`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.complete(completeClusters, func(l *live, args []string, _ string) []string {
			var out []string
			for _, m := range desired.Load(l, l.layout, args[0], "members").MemberList() {
				out = append(out, m.Name)
			}
			return out
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("wait") {
				w.wait = removeWait
			}
			member := ""
			if len(args) == 2 {
				member = args[1]
			}
			return a.remove(cmd.Context(), args[0], member, typed, alone, override, w)
		},
	}
	w.add(c)
	c.Flags().Lookup("wait").DefValue = removeWait.String()
	c.Flags().StringVar(&typed, "confirm", "", "the name of what is removed, instead of typing it when asked")
	c.Flags().BoolVar(&alone, "alone", false, "also when no replica is left that could lead")
	overrideFlag(c, &override)
	return c
}

// removal is what remove is about to do, read from etcd at one moment.
type removal struct {
	cluster string
	// member is empty when the whole cluster goes; node is where it is.
	member, node string
	// leader is who leads, and epoch the revision of Patroni's leader key: the write
	// takes place only while it is still so (R14).
	leader string
	epoch  int64
	// members are those on hosts, each with its node.
	members map[string]string
	nodes   []string
	data    string
}

// name is what has to be typed.
func (r removal) name() string {
	if r.member != "" {
		return r.member
	}
	return r.cluster
}

func (a *app) remove(ctx context.Context, cluster, member, typed string, alone, override bool, w writeFlags) error {
	l, r, c, err := a.removable(ctx, cluster, member, alone, w)
	if err != nil {
		return err
	}
	a.showRemoval(r)
	if w.dryRun {
		return exitCode(NotConverged)
	}
	if err := a.confirmed(r.name(), typed); err != nil {
		return err
	}
	if len(c.writes) == 0 {
		return a.carryOut(ctx, l, r, c, w.wait) // it goes on with what was allowed before
	}
	shown := r.epoch
	b := before{cluster: cluster, operation: verdicts.Remove, subject: r.name(), why: w.reason, override: override, again: strings.TrimSpace("pgctrl remove " + cluster + " " + member)}
	asked, err := a.askHooks(ctx, b)
	if asked && err == nil {
		l, r, c, err = a.removable(ctx, cluster, member, alone, w)
	}
	switch {
	case err != nil:
		return err
	case r.epoch != shown:
		return leaderChanged(cluster)
	}
	return a.carryOut(ctx, l, r, c, w.wait)
}

// removable looks at what is to be removed, and refuses what must not be.
func (a *app) removable(ctx context.Context, cluster, member string, alone bool, w writeFlags) (*live, removal, change, error) {
	var c change
	l, err := a.read(ctx, statusFamilies...)
	if err != nil {
		return l, removal{}, c, err
	}
	r, err := lookAt(l, cluster, member)
	if err == nil {
		err = a.othersRemain(l, r, alone)
	}
	if err == nil {
		c, err = r.documents(l)
	}
	if err != nil {
		return l, r, c, err
	}
	c.why, c.typed = w.reason, true
	return l, r, c, c.judge(l)
}

func leaderChanged(cluster string) error {
	return fail("the leader of %s changed after it was shown. Nothing was written.", cluster).then("pgctrl status %s", cluster)
}

// lookAt finds what is there and refuses what must not go.
func lookAt(l *live, cluster, member string) (removal, error) {
	r := removal{cluster: cluster, member: member, members: map[string]string{}}
	if !slices.Contains(l.known(), cluster) {
		return r, l.cluster(cluster)
	}
	if e, ok := l.Get(l.layout.Leader(cluster)); ok {
		r.leader, r.epoch = string(e.Value), e.ModRevision
	}
	if f, ok := observed.Read[observed.Formed](l, l.layout.FormedKey(cluster)); ok {
		r.data = f.DataDirectory
	}
	docs := desired.Load(l, l.layout, cluster, "members")
	stays := 0
	for _, m := range docs.MemberList() {
		r.members[m.Name] = m.Node
		if !m.Absent() && m.Name != member {
			stays++
		}
	}
	for _, e := range l.Range(l.layout.Prefix(keys.Plan)) {
		ref, err := l.layout.Parse(e.Key)
		if err != nil || ref.Cluster != cluster {
			continue
		}
		r.nodes = append(r.nodes, ref.Node)
		if p, err := plan.Decode(e.Value); err == nil && ref.Concern == "postgres" && p.Cluster.Member != "" {
			r.members[p.Cluster.Member] = ref.Node
		}
	}
	slices.Sort(r.nodes)
	r.nodes = slices.Compact(r.nodes)
	if member == "" {
		return r, r.reachable(l, r.nodes)
	}
	node, known := r.members[member]
	switch r.node = node; {
	case !known:
		return r, fail("%s", nothing(fmt.Sprintf("cluster %s has no member %s%s", cluster, member, didYouMean(member, sortedKeys(r.members))))).then("pgctrl status %s", cluster)
	case r.leader == member:
		return r, fail("%s leads %s; it is removed once another member does. Nothing was written.", member, cluster).
			then("patronictl -c /etc/patroni/%s.yml switchover %s --leader %s (on %s)", cluster, cluster, member, node)
	case stays == 0:
		return r, fail("%s is the last member of %s. Nothing was written.", member, cluster).then("pgctrl remove %s (removes the whole cluster)", cluster)
	case r.leader == "":
		return r, fail("nobody leads %s, and %s may be the one to do so next. Nothing was written.", cluster, member).then("pgctrl status %s", cluster)
	}
	return r, r.reachable(l, []string{node})
}

// othersRemain refuses to remove the last replica that could lead. One that is on its
// way out already is one no more.
func (a *app) othersRemain(l *live, r removal, alone bool) error {
	if r.member == "" {
		return nil
	}
	o := operation{cluster: r.cluster, status: status.Compute(a.input(l, r.cluster)), docs: desired.Load(l, l.layout, r.cluster)}
	m, err := o.member(r.member)
	if err != nil {
		return nil // it has left Patroni and its plans; only its document is to go
	}
	return o.keepsOne(m, alone, "pgctrl remove "+r.cluster+" "+r.member)
}

// known are the clusters there is anything of: documents, a record, or plans.
func (l *live) known() []string {
	names := append(l.clusters(), l.names(keys.Formed, func(r keys.Ref) string { return r.Cluster })...)
	names = append(names, l.names(keys.Plan, func(r keys.Ref) string { return r.Cluster })...)
	slices.Sort(names)
	return slices.Compact(names)
}

// reachable refuses what nobody would carry out.
func (r removal) reachable(l *live, nodes []string) error {
	for _, n := range nodes {
		if _, alive := l.alive(n); !alive && r.planned(l, n) {
			return fail("the agent of node %s is away, and only it can stop what runs there. Nothing was written.", n).
				then("pgagent status (on %s)", n).then("pgctrl node remove %s --lost (when the host never comes back)", n)
		}
	}
	return nil
}

func (r removal) planned(l *live, node string) bool {
	return len(l.Range(l.layout.NodePlans(node)+r.cluster+"/")) > 0
}

// documents are the writes that say it.
func (r removal) documents(l *live) (change, error) {
	c := change{scope: r.cluster, writes: map[string][]byte{}}
	c.guards = []store.Guard{store.ModIs(l.layout.Leader(r.cluster), r.epoch)}
	document, fields := "postgres", []string{"state=absent", "confirm=" + r.cluster}
	if r.member != "" {
		document, fields = "members/"+r.member, []string{"node=" + r.node, "state=absent"}
	}
	key := l.layout.ClusterDoc(r.cluster, document)
	old, exists := l.Get(key)
	text, err := desired.SetFields(document, old.Value, fields)
	if err != nil {
		return c, problemsOf(l, err)
	}
	if !exists || string(text) != string(old.Value) {
		c.writes[key] = text
	}
	return c, nil
}

func (a *app) showRemoval(r removal) {
	leads := "nobody leads"
	if r.leader != "" {
		leads = r.leader + " leads"
	}
	if r.member != "" {
		a.say("remove member %s of %s from node %s; %s and goes on", r.member, r.cluster, r.node, leads)
		a.say("  goes  out of every route first; then haproxy@%s (unless the node is a proxy) and patroni@%s with its PostgreSQL on %s", r.cluster, r.cluster, r.node)
		a.say("  kept  its data on %s: %s, renamed to %s.removed-...", r.node, r.data, r.data)
	} else {
		a.say("remove cluster %s; %s", r.cluster, leads)
		for _, m := range sortedKeys(r.members) {
			a.say("  goes  %s on %s, with its services", m, r.members[m])
		}
		a.say("  goes  documents, passwords, and Patroni's keys %s/", r.cluster)
		if r.data != "" {
			a.say("  kept  data on every node: %s, renamed to %s.removed-...", r.data, r.data)
		}
	}
}

// confirmed wants the name typed: on the command line, or at a prompt on a terminal.
func (a *app) confirmed(name, word string) error {
	if word == "" {
		var asked bool
		word, asked = typed.Word(a.In, a.Err, fmt.Sprintf("type %s to go on: ", name))
		switch {
		case !asked:
			return fail("this needs the name typed: --confirm %s. Nothing was written.", name)
		case word == "":
			return fail("no name was typed. Nothing was written.")
		}
	}
	if word != name {
		return fail("expected the name %s, found %s. Nothing was written.", name, word)
	}
	return nil
}

// carryOut writes what was shown, unless the leader is another one by now, and waits.
func (a *app) carryOut(ctx context.Context, l *live, r removal, c change, wait time.Duration) error {
	f, err := a.follow(ctx)
	if err != nil {
		return err
	}
	defer f.stop()
	rev := int64(0)
	if len(c.writes) > 0 {
		rev, err = a.commit(ctx, l, c)
		var conflict *store.Conflict
		if errors.As(err, &conflict) && conflict.Key == l.layout.Leader(r.cluster) {
			return leaderChanged(r.cluster)
		}
		if err != nil {
			return err
		}
		a.note("wrote    %s: state absent (revision %d)", r.name(), rev)
	} else {
		a.note("going on with the removal of %s", r.name())
	}
	if wait <= 0 {
		a.note("next: pgctrl status %s --watch; then run this command again, which clears what is left in etcd", r.cluster)
		return nil
	}
	return a.awaitRemoval(ctx, f, r, rev, wait)
}
