package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

// How long the commands wait by default: a restart writes a checkpoint first, a copy
// takes as long as the data are large.
const (
	restartWait = 5 * time.Minute
	reinitWait  = time.Hour
)

func completeMembers(l *live, args []string, _ string) []string {
	return sortedKeys(desired.Load(l, l.layout, args[0], "members").Members)
}

func (a *app) restartCommand() *cobra.Command {
	var typed string
	var pending, override bool
	var wait time.Duration
	c := &cobra.Command{
		Use: "restart <cluster> [<member>]", Short: "Restart PostgreSQL, member by member",
		Long: `Restarts one member, or all: replicas first, one after another, each when the one
before follows again, the leader last and in place. Values that wait (PendingRestart)
are then in force. The leader's restart interrupts writes for some seconds, so it
wants the cluster's name typed; nobody else leads meanwhile.

One command or operation at a time disrupts a cluster: while another one does, this
refuses and names it. Hooks that want to be asked before a restart can refuse it.`,
		Example: `  pgctrl restart pg-test pg-test-2
  pgctrl restart pg-test --pending --confirm pg-test`,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.complete(completeClusters, completeMembers),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.restart(cmd.Context(), args, pending, override, typed, wait)
		},
	}
	c.Flags().BoolVar(&pending, "pending", false, "only members with a value that waits for a restart")
	c.Flags().StringVar(&typed, "confirm", "", "the cluster's name, instead of typing it when asked; needed when the leader restarts")
	c.Flags().DurationVar(&wait, "wait", restartWait, "how long to wait for each member")
	overrideFlag(c, &override)
	return c
}

func (a *app) restart(ctx context.Context, args []string, pending, override bool, typed string, wait time.Duration) error {
	cluster := args[0]
	l, o, err := a.lookInto(ctx, cluster)
	if err != nil {
		return err
	}
	ms := slices.Clone(o.status.Members)
	if len(args) == 2 {
		m, err := o.member(args[1])
		if err != nil {
			return err
		}
		ms = []status.Member{m}
	}
	ms = slices.DeleteFunc(ms, func(m status.Member) bool { return pending && !m.PendingRestart })
	if len(ms) == 0 {
		a.say("no change: nothing waits for a restart")
		return nil
	}
	slices.SortStableFunc(ms, func(x, y status.Member) int {
		switch o.status.Leader {
		case x.Name:
			return 1
		case y.Name:
			return -1
		}
		return strings.Compare(x.Name, y.Name)
	})
	if err := a.heldBy(l, cluster); err != nil {
		return err
	}
	if err := o.ready(l, ms); err != nil {
		return err
	}
	for _, m := range ms {
		if m.State == "" {
			return fail("%s has no running Patroni. Nothing was done.", m.Name).then("journalctl -u patroni@%s (on %s)", cluster, m.Node)
		}
		if m.Name == o.status.Leader {
			a.say("restart of %s, which leads %s: no writes until it is back", m.Name, cluster)
			if err := a.confirmed(cluster, typed); err != nil {
				return err
			}
		}
	}
	again := "pgctrl restart " + strings.Join(args, " ")
	if pending {
		again += " --pending"
	}
	if _, err := a.askHooks(ctx, before{cluster: cluster, operation: verdicts.Restart, subject: names(ms), override: override, again: again}); err != nil {
		return err
	}
	f, err := a.begin(ctx, &o, plan.ActRestart, ms)
	if err != nil {
		return err
	}
	defer o.end(ctx, f)
	for _, m := range ms {
		if err := a.restartOne(ctx, f, o, m, pending, wait); err != nil {
			return err
		}
	}
	return nil
}

// restartOne restarts a member and waits until it does again what it did.
func (a *app) restartOne(ctx context.Context, f *follower, o operation, m status.Member, pending bool, wait time.Duration) error {
	part, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	since := a.deps.Now()
	p := a.newProgress()
	p.waits("restarting " + m.Name)
	r, err := a.perform(part, f, o, plan.ActRestart, m, pending, p)
	if err == nil {
		err = o.came(r, m, wait)
	}
	if err != nil {
		p.end()
		return err
	}
	p.waits(m.Name + " is up; waiting until it is back in its place")
	back, err := a.await(part, f, 0, wait, func(s kv.Snapshot) bool {
		now := status.Compute(a.input(s, o.cluster))
		return slices.ContainsFunc(now.Members, func(n status.Member) bool {
			return n.Name == m.Name && (n.Follows || n.Confirmed) && !n.PendingRestart
		})
	})
	p.end()
	switch {
	case err != nil:
		return err
	case !back:
		return fail("%s was restarted and is not back in its place after %s", m.Name, wait).then("pgctrl status %s", o.cluster)
	}
	a.say("restarted  %s on %s in %d ms", m.Name, m.Node, a.deps.Now().Sub(since).Milliseconds())
	return nil
}

func (a *app) reinitCommand() *cobra.Command {
	var typed string
	var alone, override bool
	var wait time.Duration
	c := &cobra.Command{
		Use: "reinit <cluster> <member>", Short: "Copy a replica's data anew from the leader",
		Long: `For a replica that can't follow any more. Its data are removed by Patroni and copied
from the leader again; what only it had is lost. Never the leader. It asks for the
member's name, and refuses when no other replica could lead meanwhile.`,
		Example: "  pgctrl reinit pg-test pg-test-2 --confirm pg-test-2",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.complete(completeClusters, completeMembers),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.reinit(cmd.Context(), args[0], args[1], typed, alone, override, wait)
		},
	}
	c.Flags().StringVar(&typed, "confirm", "", "the member's name, instead of typing it when asked")
	c.Flags().BoolVar(&alone, "alone", false, "also when no other replica could lead meanwhile")
	c.Flags().DurationVar(&wait, "wait", reinitWait, "how long to wait until it streams")
	overrideFlag(c, &override)
	return c
}

// reinitable looks at a member whose data are to be copied anew, and refuses what must not be.
func (a *app) reinitable(ctx context.Context, cluster, member string, alone bool) (o operation, m status.Member, err error) {
	l, o, err := a.lookInto(ctx, cluster)
	if err != nil {
		return o, m, err
	}
	if m, err = o.member(member); err != nil {
		return o, m, err
	}
	if m.Name == o.status.Leader {
		return o, m, fail("%s leads %s: its data are what the others are copied from. Nothing was done.", member, cluster).then("pgctrl status %s", cluster)
	}
	if err := o.keepsOne(m, alone, "pgctrl reinit "+cluster+" "+member); err != nil {
		return o, m, err
	}
	if err := a.heldBy(l, cluster); err != nil {
		return o, m, err
	}
	return o, m, o.ready(l, []status.Member{m})
}

func (a *app) reinit(ctx context.Context, cluster, member, typed string, alone, override bool, wait time.Duration) error {
	o, m, err := a.reinitable(ctx, cluster, member, alone)
	if err != nil {
		return err
	}
	a.say("reinit %s on %s; %s leads and goes on", member, m.Node, o.status.Leader)
	a.say("  lost  its data in %s on %s, which are copied from the leader again", o.formed.DataDirectory, m.Node)
	if err := a.confirmed(member, typed); err != nil {
		return err
	}
	asked, err := a.askHooks(ctx, before{cluster: cluster, operation: verdicts.Reinit, subject: member, override: override, again: "pgctrl reinit " + cluster + " " + member})
	if asked && err == nil {
		o, m, err = a.reinitable(ctx, cluster, member, alone)
	}
	if err != nil {
		return err
	}
	f, err := a.begin(ctx, &o, plan.ActReinit, []status.Member{m})
	if err != nil {
		return err
	}
	defer o.end(ctx, f)
	part, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	p := a.newProgress()
	p.waits("copying " + member)
	r, err := a.perform(part, f, o, plan.ActReinit, m, false, p)
	p.end()
	if err == nil {
		err = o.came(r, m, wait)
	}
	if err != nil {
		return err
	}
	a.say("reinit     %s: %s in %d ms", member, r.Message, a.deps.Now().Sub(a.start).Milliseconds())
	return nil
}
