package command

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/host/scratch"
)

// scratchCommand has the stages of a scratch restore, which the agent runs in units of their
// own.
func (a *app) scratchCommand() *cobra.Command {
	c := &cobra.Command{Use: "scratch", Short: "The stages of a restore beside a cluster (pgctrl-scratch@.service runs this)", Hidden: true,
		Example: "  systemctl status pgctrl-scratch@pg-test"}
	for _, stage := range []struct {
		use, short string
		do         func(ctx context.Context, order string, log io.Writer) error
	}{
		{"fetch", "Copy a backup and WAL into a folder", scratch.Fetch},
		{"recover", "Recover what was copied", scratch.Recover},
	} {
		var order string
		s := &cobra.Command{
			Use: stage.use, Short: stage.short, Args: cobra.NoArgs, Hidden: true,
			Example: "  journalctl -u 'pgctrl-scratch*@pg-test'",
			RunE:    func(cmd *cobra.Command, _ []string) error { return stage.do(cmd.Context(), order, a.Err) },
		}
		s.Flags().StringVar(&order, "order", "", "what is to be restored, as JSON")
		c.AddCommand(s)
	}
	return c
}

// scratchRuns fits scratch.Driver to the agent.
type scratchRuns struct{ *scratch.Driver }

// Start implements agent.Scratch.
func (s scratchRuns) Start(ctx context.Context, cluster string, o agent.ScratchOrder) error {
	return s.Driver.Start(ctx, cluster, scratch.Order(o))
}

// Run implements agent.Scratch.
func (s scratchRuns) Run(ctx context.Context, cluster string) (agent.ScratchRun, error) {
	r, err := s.Driver.Run(ctx, cluster)
	return agent.ScratchRun(r), err
}
