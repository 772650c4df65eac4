package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// addWait is how long a new member is waited for; it copies all the data first.
const addWait = time.Hour

func (a *app) addCommand() *cobra.Command {
	var w writeFlags
	var on []string
	c := &cobra.Command{
		Use: "add <cluster> --on <node>,...", Short: "Add members to a cluster that lives",
		Long: `Writes the document of one more member for each node and waits until every one of
them has copied the data from the leader and streams. Fields such as offline or delay
may follow; they go into each document.`,
		Example: `  pgctrl add pg-test --on pg4
  pgctrl add pg-test --on pg4 offline=true`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("wait") {
				w.wait = addWait
			}
			_, _, err := a.add(cmd.Context(), args[0], on, args[1:], nil, w)
			return err
		},
	}
	w.add(c)
	c.Flags().Lookup("wait").DefValue = addWait.String()
	c.Flags().StringSliceVar(&on, "on", nil, "the nodes")
	_ = c.RegisterFlagCompletionFunc("on", a.completeNodeLists)
	return c
}

// add writes the members' documents and waits for them. base is a document to begin
// with. It returns the new members, and whether all of them stream.
func (a *app) add(ctx context.Context, cluster string, on, fields []string, base []byte, w writeFlags) ([]string, bool, error) {
	l, o, err := a.lookInto(ctx, cluster)
	if err != nil {
		return nil, false, err
	}
	if len(on) == 0 {
		return nil, false, fail("expected the nodes: --on <node>,... Nothing was written.").then("pgctrl node list")
	}
	c := change{scope: cluster, writes: map[string][]byte{}, why: w.reason, typed: true,
		guards: []store.Guard{store.ModIs(l.layout.Leader(cluster), o.status.Epoch)}}
	if _, err := a.registerNodes(l, newCluster{name: cluster, on: on}, c.writes); err != nil {
		return nil, false, err
	}
	var members []string
	for _, node := range on {
		if p, _ := l.alive(node); o.formed.Version != 0 && !slices.Contains(p.PostgreSQL, o.formed.Version) {
			return nil, false, fail("PostgreSQL %d, which %s has, is not installed on %s. Nothing was written.", o.formed.Version, cluster, node).
				then("apt-get install postgresql-%d (on %s)", o.formed.Version, node)
		}
		name := o.nextMember(l, members)
		text, err := desired.SetFields("members/"+name, base, append([]string{"node=" + node}, fields...))
		if err != nil {
			return nil, false, problemsOf(l, err)
		}
		c.writes[l.layout.ClusterDoc(cluster, "members/"+name)] = text
		members = append(members, name)
	}
	if err := c.judge(l); err != nil {
		return nil, false, err
	}
	if w.dryRun {
		for _, k := range sortedKeys(c.writes) {
			a.say("would write %s: %s", strings.TrimPrefix(k, l.layout.DesiredPrefix()), oneLine(c.writes[k]))
		}
		return members, false, exitCode(NotConverged)
	}
	f, err := a.follow(ctx)
	if err != nil {
		return nil, false, err
	}
	defer f.stop()
	rev, err := a.commit(ctx, l, c)
	if errors.Is(err, store.ErrConflict) {
		return nil, false, fail("the leader of %s, or one of the documents, changed after it was read. Nothing was written.", cluster).then("pgctrl status %s", cluster)
	}
	if err != nil {
		return nil, false, err
	}
	a.note("wrote    %s on %s (revision %d)", oneOf(members), oneOf(on), rev)
	if w.wait <= 0 {
		a.note("next: pgctrl status %s --watch", cluster)
		return members, false, nil
	}
	err = a.awaitMembers(ctx, f, cluster, members, rev, w.wait)
	return members, err == nil, err
}

// nextMember is the first free name after the highest number; names of members that
// are gone come back only at the top, so that no two things have one name soon.
func (o operation) nextMember(l *live, taken []string) string {
	names := slices.Clone(taken)
	for _, m := range o.status.Members {
		names = append(names, m.Name)
	}
	for _, e := range l.Range(l.layout.ClusterDoc(o.cluster, "members/")) {
		names = append(names, strings.TrimPrefix(e.Key, l.layout.ClusterDoc(o.cluster, "members/")))
	}
	highest := 0
	for _, n := range names {
		tail, ours := strings.CutPrefix(n, o.cluster+"-")
		if i, err := strconv.Atoi(tail); ours && err == nil {
			highest = max(highest, i)
		}
	}
	return fmt.Sprintf("%s-%d", o.cluster, highest+1)
}

// awaitMembers waits until the members stream and the change is in force.
func (a *app) awaitMembers(ctx context.Context, f *follower, cluster string, members []string, rev int64, limit time.Duration) error {
	p := a.newProgress()
	var last status.ClusterStatus
	said := map[string]string{}
	ok, err := a.await(ctx, f, rev, limit, func(s kv.Snapshot) bool {
		last = status.Compute(a.input(s, cluster))
		follow := 0
		for _, m := range last.Members {
			if !slices.Contains(members, m.Name) {
				continue
			}
			if m.State != said[m.Name] {
				said[m.Name] = m.State
				p.came("%s: %s", m.Name, m.State)
			}
			if m.Follows {
				follow++
			}
		}
		p.waits(a.waitingFor([]status.ClusterStatus{last}))
		return follow == len(members) && judge(last, nil) != pending || last.Controller == "" && a.deps.Now().Sub(a.start) > min(serverPatience, limit)
	})
	p.end()
	switch {
	case err != nil:
		return err
	case !ok || last.Controller == "" || judge(last, nil) == failed:
		return a.concludeCreate(last, ok)
	}
	a.say("added    %s: streaming from %s in %d ms", oneOf(members), last.Leader, a.deps.Now().Sub(a.start).Milliseconds())
	return nil
}

func (a *app) replaceCommand() *cobra.Command {
	var w writeFlags
	var on, typed string
	var override bool
	c := &cobra.Command{
		Use: "replace <cluster> <member> --on <node>", Short: "Add a member on another node, then remove this one",
		Long: `A member's node never changes, so this adds a member with the same fields on the
other node, waits until it streams, and only then removes the old one; its data stay
where they are. The leader is refused: move it first. Should the new one not come up
in time, the old one is not touched.`,
		Example: "  pgctrl replace pg-test pg-test-2 --on pg4 --confirm pg-test-2",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.complete(completeClusters, completeMembers),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("wait") {
				w.wait = addWait
			}
			return a.replace(cmd.Context(), args[0], args[1], on, typed, override, w)
		},
	}
	w.add(c)
	c.Flags().Lookup("wait").DefValue = addWait.String()
	c.Flags().StringVar(&on, "on", "", "the node of the new member")
	c.Flags().StringVar(&typed, "confirm", "", "the name of the member that goes, instead of typing it when asked")
	overrideFlag(c, &override)
	_ = c.RegisterFlagCompletionFunc("on", a.completeNodeLists)
	return c
}

func (a *app) replace(ctx context.Context, cluster, member, on, typed string, override bool, w writeFlags) error {
	l, err := a.read(ctx, statusFamilies...)
	if err != nil {
		return err
	}
	// All that would keep the old one from going is found before the new one comes.
	r, err := lookAt(l, cluster, member)
	if err != nil && r.leader == member {
		return err
	}
	if _, known := r.members[member]; !known && err != nil {
		return err
	}
	if on == "" || w.wait <= 0 {
		return fail("expected --on <node> and time to wait: the old one goes when the new one streams. Nothing was written.").then("pgctrl node list")
	}
	a.say("replace %s on %s by a new member on %s; %s leads and goes on", member, r.node, on, r.leader)
	if w.dryRun {
		return exitCode(NotConverged)
	}
	if err := a.confirmed(member, typed); err != nil {
		return err
	}
	old, _ := l.Get(l.layout.ClusterDoc(cluster, "members/"+member))
	if _, streams, err := a.add(ctx, cluster, []string{on}, nil, old.Value, w); err != nil || !streams {
		return err
	}
	return a.remove(ctx, cluster, member, member, false, override, w) // which asks the hooks: the new one disturbs nobody
}
