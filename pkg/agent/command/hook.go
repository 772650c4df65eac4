package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/host/hookcmd"
)

// hookCommand runs an operator's program in the unit that the agent made for it.
func (a *app) hookCommand() *cobra.Command {
	var order string
	c := &cobra.Command{Use: "hook", Short: "Run the program of a hook (pgctrl-hook-*.service runs this)", Hidden: true, Args: cobra.NoArgs,
		Example: "  journalctl -u 'pgctrl-hook-*'",
		RunE:    func(cmd *cobra.Command, _ []string) error { return hookcmd.Supervise(cmd.Context(), order, a.Err) },
	}
	c.Flags().StringVar(&order, "order", "", "file that says what is to be run")
	return c
}

// hookRuns fits hookcmd.Driver to the agent.
type hookRuns struct{ *hookcmd.Driver }

// Run implements agent.Hooks.
func (h hookRuns) Run(ctx context.Context, o agent.HookOrder) (agent.HookRun, error) {
	r, err := h.Driver.Run(ctx, hookcmd.Order(o))
	return agent.HookRun(r), err
}
