package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/host/pgbackrest"
	"github.com/pgctrl/pgctrl/pkg/host/postgres"
)

// replicaCommand is run by Patroni as PostgreSQL's user, with the agent running or not, so it
// asks neither the agent nor etcd. Whatever is in the way is said on standard error, which is
// Patroni's journal, and ends it with 1: Patroni goes on with its next method.
func (a *app) replicaCommand() *cobra.Command {
	var data, conninfo, scope, role string
	var always bool
	c := &cobra.Command{
		Use: "replica <cluster>", Short: "Fill an empty data directory out of the backup repository (Patroni runs this)",
		Long: `Makes the data of a new replica out of the cluster's backup repository, where that is
faster than to copy the primary, and says why not otherwise; it ends with 1 then, and
Patroni copies the primary. A backup is taken only if the primary has come from it and
the archive has all the WAL since. What decides: docs/BACKUP.md.`,
		Example: `  pgagent replica pg-test --datadir /var/lib/postgresql/15/pg-test --connstring "host=10.10.10.11 user=pgctrl_replicator"`,
		Args:    cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			began := time.Now()
			if err := a.fillReplica(cmd.Context(), args[0], data, conninfo, always); err != nil {
				return fmt.Errorf("replica of %s not from the backup repository: %w (after %s)", args[0], err, time.Since(began).Round(time.Millisecond))
			}
			fmt.Fprintf(a.Err, "replica of %s from the backup repository after %s\n", args[0], time.Since(began).Round(time.Millisecond))
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&data, "datadir", "", "the empty data directory")
	f.StringVar(&conninfo, "connstring", "", "how to reach the primary, as libpq has it")
	f.BoolVar(&always, "always", false, "take the repository also where the primary would be copied faster")
	f.StringVar(&scope, "scope", "", "Patroni's name of the cluster; not used")
	f.StringVar(&role, "role", "", "replica; not used")
	for _, name := range []string{"datadir", "connstring"} {
		_ = c.MarkFlagRequired(name) // it exists
	}
	return c
}

func (a *app) fillReplica(ctx context.Context, cluster, data, conninfo string, always bool) error {
	d := pgbackrest.New(pgbackrest.Options{Node: "this host"})
	processes, err := d.Processes(cluster)
	if err != nil {
		return err
	}
	primary, err := postgres.AskUpstream(ctx, conninfo)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, pgbackrest.AskWithin)
	defer cancel()
	r, err := d.Look(within, cluster, primary.System)
	if err != nil {
		return err
	}
	b, why := pgbackrest.Choose(pgbackrest.Newcomer{Always: always, Primary: primary, Repository: r, Processes: processes})
	if why == "" {
		var archived []string
		if archived, err = d.Archived(ctx, cluster, b.FirstWAL); err != nil {
			return err
		}
		why = pgbackrest.Whole(b.FirstWAL, archived, primary.Segment)
	}
	if why != "" {
		return fmt.Errorf("%s", why)
	}
	fmt.Fprintf(a.Err, "replica of %s: backup %s of %s\n", cluster, b.Label, b.Stopped.Format(time.RFC3339))
	return d.Restore(ctx, cluster, b.Label, data, a.Out)
}
