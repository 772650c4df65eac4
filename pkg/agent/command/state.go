package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func (a *app) haproxyStateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "haproxy-state <cluster>", Short: "Write the state that HAProxy starts from (haproxy@.service runs this)",
		Long: `Asks the running agent to write the server-state file of the cluster's HAProxy,
so that its next start or reload begins with the right servers up. When no agent
answers within ` + askTime.String() + ` it writes the conservative file itself, from the plan on disk: what
a running HAProxy does is kept, and otherwise read-write servers begin down until
Patroni's checks bring one up.`,
		Example: "  pgagent haproxy-state pg-test",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				// HAProxy starts whether or not this works; with what settings there are it
				// starts right.
				fmt.Fprintln(a.Err, "warning:", err)
			}
			asked := dial(cfg.Socket).composeState(cmd.Context(), args[0])
			if asked == nil {
				return nil
			}
			fmt.Fprintf(a.Err, "warning: %v; writing the conservative state from the plan on disk\n", asked)
			return a.conservative(cmd.Context(), cfg, args[0])
		},
	}
}

// conservative does it without an agent.
func (a *app) conservative(ctx context.Context, cfg config.Config, cluster string) error {
	p, found, err := agent.LoadKept(cfg.StateDir, cluster, "haproxy")
	switch {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("no plan for the HAProxy of %s is kept under %s", cluster, cfg.StateDir)
	}
	router, done := a.machine.Router(cfg, zap.NewNop())
	defer done()
	return agent.ComposeStates(ctx, router, []plan.Plan{p}, plan.View{}, time.Now())
}
