package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// TestRestoreInPlace: the cluster goes back to a moment and has every row that was acknowledged
// up to it and none that was asked for after it. It is whole, archives, and has a full backup at
// once. A target that is not there stops nothing. What was written since is kept on every member
// until it is discarded.
func TestRestoreInPlace(t *testing.T) {
	ctx := begin(t)
	h, w, moment := written(ctx, t)
	w.upTo(ctx, t, 150)

	held := must[*observed.Repository](t)(repository(ctx, h))
	from, _ := held.Newest() // named, since of gaps that tests before left it is not known on which side the point is
	out, err := inPlace(ctx, "--name", "no-such-point", "--backup", from.Label)
	t.Logf("a restore point that is not there: %v\n%s", err, out)
	if err == nil || !strings.Contains(string(out), "prepare on "+h.Name) {
		t.Errorf("a target that is not there: %v", err)
	}
	w.upTo(ctx, t, 100) // nothing was stopped
	if left, _ := h.Exec(ctx, "sh", "-c", "ls -d "+dataOf+".*-restore-*"); strings.TrimSpace(left) != "" {
		t.Errorf("left on %s: %s", h.Name, left)
	}
	out, err = hosts.Infra.Command(ctx, "pgctrl", "restore", cluster, "--in-place", "--time", moment.UTC().Format(time.RFC3339Nano), "--confirm", "pg-tset").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "expected the name pg-test, found pg-tset. Nothing was written.") {
		t.Errorf("a name mistyped: %v\n%s", err, out)
	}

	all := w.end(t)
	asked := time.Now()
	out, err = inPlace(ctx, "--time", moment.UTC().Format(time.RFC3339Nano))
	t.Logf("after %s:\n%s", time.Since(asked).Round(time.Millisecond), out)
	ok(t, err)
	compareRows(t, all, moment, numbersOn(ctx, t, h, cluster, 5436))
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	backedUp(ctx, t, leading(ctx, t), "a full backup of the restored data", backedUpWithin, after("full", asked))
	checked(ctx, t)

	id := newest(ctx, t, operations.KindRestore).ID
	for _, n := range hosts.Nodes {
		if _, err := n.Exec(ctx, "test", "-s", dataDir(ctx, t)+".before-"+id+"/PG_VERSION"); err != nil {
			t.Errorf("the former data of %s are not kept: %v", n.Name, err)
		}
	}
	discarded(ctx, t, id)
	for _, n := range hosts.Nodes {
		if left, _ := n.Exec(ctx, "sh", "-c", "ls -d "+dataOf+".*-restore-*"); strings.TrimSpace(left) != "" {
			t.Errorf("left on %s: %s", n.Name, left)
		}
	}
}

// TestRestoreInPlaceIsTakenBack: cancelled when members have been stopped already, a restore is
// undone: everything that was written is there, and the cluster is whole.
func TestRestoreInPlaceIsTakenBack(t *testing.T) {
	ctx := begin(t)
	all, _ := restoring(ctx, t)
	id := newest(ctx, t, operations.KindRestore).ID
	ok(t, fleet.Until(ctx, 2*time.Minute, "a member to be stopped", func(ctx context.Context) error {
		o := newest(ctx, t, operations.KindRestore)
		if len(o.Touched()) == 0 {
			return fmt.Errorf("%s: %+v", o.State, o.Phases)
		}
		return nil
	}))
	out, err := hosts.Infra.Command(ctx, "pgctrl", "operation", "cancel", cluster, id).CombinedOutput()
	t.Logf("cancel: %v\n%s", err, out)
	var o operations.Operation
	ok(t, fleet.Until(ctx, 3*time.Minute, "the restore to be undone", func(ctx context.Context) error {
		if o = newest(ctx, t, operations.KindRestore); !o.State.Final() {
			return fmt.Errorf("%s: %+v", o.State, o.Phases)
		}
		return nil
	}))
	if o.State != operations.Cancelled || !o.Undo {
		t.Errorf("it is %s: %s", o.State, o.Message)
	}
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	if n := len(numbersOn(ctx, t, leading(ctx, t), cluster, 5436)); n < len(all) {
		t.Errorf("%d rows of %d are there", n, len(all))
	}
	discarded(ctx, t, id)
}

// written is a cluster with a backup, into which rows are being written, and a moment in which
// they were.
func written(ctx context.Context, t *testing.T) (h *lab.Host, w *rows, moment time.Time) {
	t.Helper()
	h = leading(ctx, t)
	backedUp(ctx, t, h, "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	noBackupGoesOn(ctx, t)
	w = writeRows(ctx, t, h)
	w.upTo(ctx, t, 200)
	moment = time.Now()
	w.upTo(ctx, t, 50)
	return h, w, moment
}

// restoring has asked for such a moment; all are the rows that were written up to then and after.
func restoring(ctx context.Context, t *testing.T) (all []row, moment time.Time) {
	t.Helper()
	_, w, moment := written(ctx, t)
	all = w.end(t)
	_, err := inPlace(ctx, "--time", moment.UTC().Format(time.RFC3339Nano), "--wait", "0")
	ok(t, err)
	return all, moment
}

// discarded removes what a restore kept.
func discarded(ctx context.Context, t *testing.T, id string) {
	t.Helper()
	out, err := hosts.Infra.Command(ctx, "pgctrl", "restore", cluster, "--discard", id, "--confirm", cluster).CombinedOutput()
	t.Logf("%s", out)
	ok(t, err)
}

// dataOf is the cluster's data directory for a shell, whatever PostgreSQL's version.
const dataOf = "/var/lib/postgresql/*/" + cluster

func dataDir(ctx context.Context, t *testing.T) string {
	t.Helper()
	out, err := hosts.Nodes[0].Exec(ctx, "sh", "-c", "ls -d "+dataOf)
	ok(t, err)
	return strings.TrimSpace(out)
}

// inPlace restores the cluster in place.
func inPlace(ctx context.Context, args ...string) ([]byte, error) {
	return hosts.Infra.Command(ctx, append([]string{"pgctrl", "restore", cluster, "--in-place", "--confirm", cluster}, args...)...).CombinedOutput()
}

// newest is the newest operation of a kind.
func newest(ctx context.Context, t *testing.T, k operations.Kind) (o operations.Operation) {
	t.Helper()
	for _, of := range operationsOf(ctx, t) {
		if of.Kind == k {
			o = of
		}
	}
	return o
}

// checked: pgctrl says that backups are in order.
func checked(ctx context.Context, t *testing.T) {
	t.Helper()
	ok(t, fleet.Until(ctx, time.Minute, "pgctrl backup check to find nothing", func(ctx context.Context) error {
		out, err := hosts.Infra.Command(ctx, "pgctrl", "backup", "check", cluster).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}))
}

// TestRestoreInPlaceKilled: the server and the agent that is at work are killed once in each
// phase, and the restore is done, row by row. A kill that came when its phase had ended is not
// counted.
func TestRestoreInPlaceKilled(t *testing.T) {
	ctx := begin(t)
	all, moment := restoring(ctx, t)
	hit := map[string]bool{}
	o := newest(ctx, t, operations.KindRestore)
	ok(t, fleet.Until(ctx, 5*time.Minute, "the restore to end", func(ctx context.Context) error {
		o = newest(ctx, t, operations.KindRestore)
		p, more := o.Now()
		if o.State.Final() || !more {
			return nil
		}
		for _, who := range []string{"server", "agent"} {
			mark := p.Name + ": " + who
			if p.State != operations.PhaseRunning || hit[mark] {
				continue
			}
			if who == "server" {
				killed(ctx, t, hosts.Infra, "pgctrl-server")
			} else {
				killed(ctx, t, hosts.Lab.Host(p.Node), "pgagent")
			}
			now := newest(ctx, t, operations.KindRestore)
			if is, more := now.Now(); more && is.Name == p.Name {
				hit[mark] = true
			}
			p = &operations.Phase{}
		}
		return fmt.Errorf("%s: %+v", o.State, o.Phases)
	}))
	t.Logf("killed in the middle of: %v; %s: %s", hit, o.State, o.Message)
	if o.State != operations.Done || len(hit) < 6 {
		t.Errorf("it is %s: %s; %+v; killed in %v", o.State, o.Message, o.Phases, hit)
	}
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	compareRows(t, all, moment, numbersOn(ctx, t, leading(ctx, t), cluster, 5436))
	discarded(ctx, t, o.ID)
}
