package command

import (
	"fmt"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/agent"
)

func (a *app) routeCommand() *cobra.Command {
	var h agent.Hold
	c := &cobra.Command{
		Use: "route [<cluster>]", Short: "Hold this node's read-write routes at a member by hand, for a while",
		Long: `Sends the clients of this node's read-write services to the named member, whatever
the leader key and HAProxy's checks say, until the time is over or --off. It works
while etcd is away, and outlives the agent but not a boot of the host. It is logged,
reported, and shown by pgagent status and pgctrl status.

Nothing looks whether the member takes writes: that is yours to know. Other nodes
are not concerned; run it on each that clients come through.`,
		Example: "  pgagent route --to pg-test-2 --for 10m\n  pgagent route pg-test --off",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			if (h.Member == "") != h.Off {
				return fmt.Errorf("expected --to <member>, or --off to end it; see: pgagent route --help")
			}
			h.Kind, h.By = agent.OverrideRoute, a.person()
			if len(args) == 1 {
				h.Cluster = args[0]
			}
			return a.hold(cmd, cfg.Socket, h)
		},
	}
	c.Flags().StringVar(&h.Member, "to", "", "the member that clients are sent to")
	c.Flags().DurationVar(&h.For, "for", 10*time.Minute, "for how long, at most "+agent.MaxOverride.String())
	c.Flags().BoolVar(&h.Off, "off", false, "end it now")
	return c
}

// hold asks the agent and says what became of it.
func (a *app) hold(cmd *cobra.Command, socket string, h agent.Hold) error {
	held, err := dial(socket).hold(cmd.Context(), h)
	if err != nil {
		return err
	}
	if h.Off {
		fmt.Fprintf(a.Out, "%s: no longer held by hand\n", held.Cluster)
		return nil
	}
	fmt.Fprintf(a.Out, "%s until %s (%s)\n", held, held.Until.Local().Format("15:04:05 MST"), held.For)
	if held.Warning != "" {
		fmt.Fprintln(a.Err, "warning:", held.Warning)
	}
	fmt.Fprintln(a.Err, "next, to end it earlier:", held.Off())
	return nil
}

// person is who types, also under sudo; for the log and the report.
func (a *app) person() string {
	for _, name := range []string{"SUDO_USER", "USER"} {
		if v := a.Getenv(name); v != "" {
			return v
		}
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
