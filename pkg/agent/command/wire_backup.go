package command

import (
	"context"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/host/pgbackrest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// localBackups fits pgbackrest.Driver to the agent.
type localBackups struct{ *pgbackrest.Driver }

// Stanza implements agent.Backups.
func (l localBackups) Stanza(ctx context.Context, cluster string, own plan.Member) error {
	return l.Driver.Stanza(ctx, cluster, own.Port)
}

// Archive implements agent.Backups.
func (l localBackups) Archive(ctx context.Context, cluster string, own plan.Member) (string, error) {
	return l.Driver.Archive(ctx, cluster, own.Port)
}

// Heartbeat implements agent.Backups.
func (l localBackups) Heartbeat(ctx context.Context, cluster string, own plan.Member, id string) (observed.Heartbeat, error) {
	return l.Driver.Heartbeat(ctx, cluster, own.Port, id)
}

// backupRuns fits the units that backups run in to the agent.
type backupRuns struct{ d *pgbackrest.Driver }

// Start implements agent.BackupRuns.
func (b backupRuns) Start(ctx context.Context, cluster string, o agent.BackupOrder) error {
	return b.d.Start(ctx, cluster, pgbackrest.Order(o))
}

// Reach implements agent.BackupRuns.
func (b backupRuns) Reach(ctx context.Context, cluster string, from plan.Member) error {
	return b.d.ReachPeer(ctx, cluster, from.Address)
}

// Run implements agent.BackupRuns.
func (b backupRuns) Run(ctx context.Context, cluster string) (agent.BackupRun, error) {
	r, err := b.d.Run(ctx, cluster)
	return agent.BackupRun(r), err
}

// Keep implements agent.BackupRuns.
func (b backupRuns) Keep(ctx context.Context, cluster string) error { return b.d.Keep(ctx, cluster) }

// End implements agent.BackupRuns.
func (b backupRuns) End(ctx context.Context, cluster string) error { return b.d.End(ctx, cluster) }
