package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/internal/typed"
	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func (a *app) vipCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "vip", Short: "Take or drop a cluster's virtual address on this node by hand, for a while",
		Example: "  pgagent vip take --for 10m\n  pgagent vip drop pg-test --for 10m\n  pgagent vip drop pg-test --off",
		Args:    cobra.NoArgs,
	}
	c.AddCommand(a.vipAct(plan.HandTake, &cobra.Command{
		Short: "Have the virtual address on this node, for a while",
		Long: `Takes the cluster's virtual address to this node and keeps it here until the time is
over or --off. It stands in for what etcd and Patroni would prove, and for nothing
else: PostgreSQL on this node must take writes at this moment and for as long as the
address is kept, and a second holder is never made knowingly.

While etcd can be asked, it is refused when another member leads or another node has
the address. While it can't, the name of the cluster must be typed (or --yes given),
and the network is asked who answers for the address, once a second as long as it is
kept so. It ends at once when another leads, has the address or answers for it.

It is logged, reported, and shown by pgagent status and pgctrl status. It outlives the
agent but not a boot of the host.`,
		Example: "  pgagent vip take --for 10m\n  pgagent vip take pg-test --for 10m --yes",
	}), a.vipAct(plan.HandDrop, &cobra.Command{
		Short: "Keep the virtual address off this node, for a while",
		Long: `Removes the cluster's virtual address from this node and does not take it until the
time is over or --off, whoever leads. It needs no proof and works while etcd is away.
Another node takes the address only when its member leads.

It is logged, reported, and shown by pgagent status and pgctrl status. It outlives the
agent but not a boot of the host.`,
		Example: "  pgagent vip drop --for 10m\n  pgagent vip drop pg-test --off",
	}))
	return c
}

// vipAct completes the command of one act.
func (a *app) vipAct(act plan.HandAct, c *cobra.Command) *cobra.Command {
	h := agent.Hold{Override: agent.Override{Kind: agent.OverrideVIP, Act: act}}
	c.Use, c.Args = string(act)+" [<cluster>]", cobra.MaximumNArgs(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := a.load(cmd)
		if err != nil {
			return err
		}
		h.By = a.person()
		if len(args) == 1 {
			h.Cluster = args[0]
		}
		err = a.hold(cmd, cfg.Socket, h)
		var unknown *unknownError
		if !errors.As(err, &unknown) {
			return err
		}
		if err := a.knows(cmd.Context(), cfg.Socket, &h, unknown); err != nil {
			return err
		}
		return a.hold(cmd, cfg.Socket, h)
	}
	c.Flags().DurationVar(&h.For, "for", 10*time.Minute, "for how long, at most "+agent.MaxOverride.String())
	c.Flags().BoolVar(&h.Off, "off", false, "end it now")
	if act == plan.HandTake {
		c.Flags().BoolVar(&h.Knowing, "yes", false, "take it although etcd can't be asked who else may have it")
	}
	return c
}

// knows has the cluster's name typed by somebody who knows what etcd can't be asked.
func (a *app) knows(ctx context.Context, socket string, h *agent.Hold, unknown *unknownError) error {
	if h.Cluster == "" {
		// It is one alone, or the agent would have said so.
		st, err := dial(socket).status(ctx)
		if err != nil {
			return err
		}
		if len(st.Clusters) != 1 {
			return fmt.Errorf("%w: name the cluster", agent.ErrOverride)
		}
		h.Cluster = st.Clusters[0].Name
	}
	fmt.Fprintln(a.Err, unknown)
	word, asked := typed.Word(a.In, a.Err, fmt.Sprintf("type %s to take the virtual address all the same: ", h.Cluster))
	switch {
	case !asked:
		return fmt.Errorf("this needs somebody who knows that no other node has the address: pgagent vip take %s --for %s --yes", h.Cluster, h.For)
	case word != h.Cluster:
		return fmt.Errorf("expected the name %s, found %q; nothing was taken", h.Cluster, word)
	}
	h.Knowing = true
	return nil
}
