package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// cancelWait is how long cancel waits by default: what a node does of it is stopped
// within seconds, a lost node is given up after minutes.
const cancelWait = time.Minute

func (a *app) operationCancel() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "cancel <cluster> <id>", Short: "End an operation that goes on",
		Long: "Asks for the end of an operation and waits for it. The server stops what a node does\nof it and undoes what can be; what is done already is kept.",
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.complete(completeClusters, completeRunning),
		Example: "  pgctrl operation cancel pg-test backup-mfg3k2a1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.cancel(cmd.Context(), args[0], args[1], wait)
		},
	}
	c.Flags().DurationVar(&wait, "wait", cancelWait, "how long to wait until it is over; 0 returns at once")
	return c
}

func (a *app) cancel(ctx context.Context, cluster, id string, wait time.Duration) error {
	f, err := a.follow(ctx)
	if err != nil {
		return err
	}
	defer f.stop()
	l := &live{Snapshot: f.Snapshot(), layout: a.settings.Layout}
	t, err := l.task(cluster, id)
	if err != nil {
		return err
	}
	t, err = a.askCancel(ctx, t)
	if err != nil {
		return err
	}
	if server, _ := status.Server(a.input(l, cluster)); server == "" {
		a.note("no pgctrl server runs; it is ended when one does")
		a.note("  next: %s", a.err.bold("systemctl start pgctrl-server"))
		return exitCode(NotConverged)
	}
	if wait == 0 {
		return nil
	}
	last, over, err := a.watchTask(ctx, f, t, wait)
	switch {
	case err != nil:
		return err
	case !over:
		a.note("%s after %s; it goes on", a.err.yellow("not over"), wait)
		a.note("  next: %s", a.err.bold("pgctrl operation watch "+cluster+" "+id))
		return exitCode(NotConverged)
	case last.State == operations.Cancelled:
		a.say("cancelled  %s in %d ms", id, a.deps.Now().Sub(a.start).Milliseconds())
		return nil
	case last.State == operations.Done:
		return fail("%s was done before it could be cancelled", id).then("pgctrl operation show %s %s", cluster, id)
	}
	return a.concludeTask(last)
}

// askCancel writes who wants the end, under the revision that was read, and reads again
// when the server or somebody else was first. The rest of the record stays as it is, also
// what a newer program put there.
func (a *app) askCancel(ctx context.Context, t task) (task, error) {
	client, err := a.connect(ctx)
	if err != nil {
		return t, err
	}
	for {
		e, ok, err := client.Get(ctx, t.stored.Key)
		if err != nil {
			return t, a.unreachable(err)
		}
		o, derr := observed.Decode[operations.Operation](e)
		switch {
		case !ok || e.CreateRevision != t.stored.Created:
			return t, fail("%s: %s", t.ID, errTaskGone).then("pgctrl operation list %s --all", t.Cluster)
		case derr != nil || o.Schema > operations.Schema:
			return t, newer(e.Key)
		case o.State.Final():
			return t, fail("%s is over already: %s. Nothing was written.", o.ID, o.State).then("pgctrl operation show %s %s", o.Cluster, o.ID)
		case !o.RestoredAt().IsZero():
			return t, fail("the restored data lead already, and clients may have written to them: from here %s goes forward only. Nothing was written.", o.ID).
				then("pgctrl operation watch %s %s", o.Cluster, o.ID)
		case o.Cancel != "":
			a.say("%s asked for its end already", o.Cancel)
			return asTask(o, e), nil
		}
		o.Cancel = whoami(a.deps.Getenv)
		value, err := withCancel(e, o.Cancel)
		if err != nil {
			return t, err
		}
		rev, err := client.Commit(ctx, []store.Guard{store.ModIs(e.Key, e.ModRevision)}, []store.Op{store.Put(e.Key, value)})
		if errors.Is(err, store.ErrConflict) {
			continue // each round somebody else's write was the reason
		}
		if err != nil {
			return t, err
		}
		a.say("asked for the end of %s (revision %d)", o.ID, rev)
		e.ModRevision = rev
		return asTask(o, e), nil
	}
}

func asTask(o operations.Operation, e kv.KV) task {
	return task{Operation: o, stored: operations.Stored{Operation: o, Key: e.Key, Created: e.CreateRevision, Revision: e.ModRevision}}
}

func withCancel(e kv.KV, by string) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(e.Value, &fields); err != nil {
		return nil, fmt.Errorf("parse %s: %w", e.Key, err)
	}
	fields["cancel"] = observed.Encode(by)
	return observed.Encode(fields), nil
}
