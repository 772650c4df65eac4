package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/host/pgbouncer"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func (a *app) poolCommand() *cobra.Command {
	c := &cobra.Command{Use: "pool", Short: "This host's poolers", Example: "  pgagent pool resume --all", Args: cobra.NoArgs}
	var all bool
	resume := &cobra.Command{
		Use: "resume [<cluster>]", Short: "End every pause of poolers, whoever made it",
		Long: `Resumes what is paused or disabled at the console of a cluster's PgBouncer on this
host, of one database or of everything. It needs neither etcd nor the agent; the
agent's unit runs it whenever the agent ends.`,
		Example: "  pgagent pool resume pg-test\n  pgagent pool resume --all",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return errors.New("expected a cluster, or --all; see: pgagent pool resume --help")
			}
			var did []string
			var err error
			if all {
				did, err = pgbouncer.ResumeAll(cmd.Context(), plan.PoolersDir)
			} else {
				did, err = pgbouncer.Resume(cmd.Context(), plan.PoolerDir(args[0]))
			}
			for _, d := range did {
				fmt.Fprintln(a.Out, d)
			}
			if err == nil && len(did) == 0 {
				fmt.Fprintln(a.Err, "nothing was paused")
			}
			return err
		},
	}
	resume.Flags().BoolVar(&all, "all", false, "every pooler of this host")
	c.AddCommand(resume)
	return c
}
