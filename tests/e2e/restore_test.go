package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// copied is the cluster that is made out of the other one's backups.
const copied = "pg-copy"

// row is one numbered row: when it was asked for, and when it was acknowledged.
type row struct{ asked, acked time.Time }

// rows writes numbered rows over one connection until stop, and keeps the times.
type rows struct {
	mu   sync.Mutex
	all  []row
	err  error
	stop context.CancelFunc
	done chan struct{}
}

// writeRows begins to write, a row every 10 ms, into an empty table. A commit is acknowledged as
// any other.
func writeRows(ctx context.Context, t *testing.T, h *lab.Host) *rows {
	t.Helper()
	sqlOn(ctx, t, h, "create table if not exists kept (n bigint); truncate kept")
	return writeRowsFrom(ctx, t, h, nil)
}

// writeRowsFrom goes on after the rows that are there.
func writeRowsFrom(ctx context.Context, t *testing.T, h *lab.Host, there []row) *rows {
	t.Helper()
	target, err := hosts.Target(ctx, cluster, h, 5436)
	ok(t, err)
	conn, err := target.Connect(ctx)
	ok(t, err)
	ctx, cancel := context.WithCancel(ctx)
	r := &rows{all: there, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		defer conn.Close(context.WithoutCancel(ctx))
		for n := len(there) + 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			asked := time.Now()
			_, err := conn.Exec(ctx, "insert into kept values ($1)", pgx.QueryExecModeSimpleProtocol, n)
			r.mu.Lock()
			if err != nil && ctx.Err() == nil {
				r.err = err
			}
			if err == nil {
				r.all = append(r.all, row{asked, time.Now()})
			}
			r.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return r
}

func (r *rows) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// end stops writing and returns all rows that were acknowledged; the n-th has number n+1.
func (r *rows) end(t *testing.T) []row {
	t.Helper()
	r.stop()
	<-r.done
	ok(t, r.err)
	return r.all
}

// upTo waits until n more rows are written.
func (r *rows) upTo(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	want := r.count() + n
	ok(t, fleet.Until(ctx, time.Minute, "rows to be written", func(context.Context) error {
		if have := r.count(); have < want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	}))
}

// numbersOn are the rows that a restored cluster has, in order.
func numbersOn(ctx context.Context, t *testing.T, h *lab.Host, name string, port int) (out []int) {
	t.Helper()
	target, err := hosts.Target(ctx, name, h, port)
	ok(t, err)
	conn, err := target.Connect(ctx)
	ok(t, err)
	defer conn.Close(ctx)
	got, err := conn.Query(ctx, "select n::int from kept order by n")
	ok(t, err)
	out, err = pgx.CollectRows(got, pgx.RowTo[int])
	ok(t, err)
	return out
}

// copyRemoved takes a restored cluster away again, with what it left on its hosts.
func copyRemoved(ctx context.Context, t *testing.T, name string) {
	out, err := hosts.Infra.Command(ctx, "pgctrl", "remove", name, "--confirm", name).CombinedOutput()
	if err != nil {
		t.Errorf("remove %s: %v\n%s", name, err, out)
	}
	for _, h := range hosts.Nodes {
		_, _ = h.Exec(ctx, "sh", "-c", "rm -rf /var/lib/postgresql/*/"+name+"* /var/lib/pgbackrest/"+name+"-*")
	}
}

// TestRestoreRowByRow: a moment of a cluster's past becomes a cluster of its own, and has every
// row that was acknowledged up to that moment and none that was asked for after it. It takes
// writes, has a replica, archives, and has a backup of its own. What can't be restored is refused
// before anything is written.
func TestRestoreRowByRow(t *testing.T) {
	ctx := begin(t)
	h := leading(ctx, t)
	first := backedUp(ctx, t, h, "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	noBackupGoesOn(ctx, t)
	other := hosts.Nodes[0]
	if other == h {
		other = hosts.Nodes[1]
	}
	w := writeRows(ctx, t, h)
	w.upTo(ctx, t, 200)
	moment := time.Now()
	w.upTo(ctx, t, 200)

	for _, refused := range []struct {
		args []string
		says string
	}{
		{[]string{"--on", h.Name, "--time", "2020-01-01T00:00:00Z"}, "the first moment that can be restored is"},
		{[]string{"--on", h.Name, "--time", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}, "is in the future"},
		{[]string{"--on", h.Name, "--backup", "20200101-000000F"}, "has no backup 20200101-000000F"},
		{[]string{"--on", h.Name, "--lsn", "0/1"}, "is before the first backup was complete"},
		{[]string{"--on", other.Name}, "are in a folder of node " + h.Name},
	} {
		out, err := hosts.Infra.Command(ctx, append([]string{"pgctrl", "restore", cluster, "--to", copied}, refused.args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), refused.says) || !strings.Contains(string(out), "Nothing was written") {
			t.Errorf("restore %v: %v\n%s", refused.args, err, out)
		}
	}
	if left := under(ctx, t, hosts.Layout.ClusterDocs(copied)); len(left) > 0 {
		t.Fatalf("a refusal wrote %s", left[0].Key)
	}

	all := restoredRowByRow(ctx, t, w, moment, h, other)

	// It is a cluster like any other.
	status, err := hosts.Pgctrl(ctx, "status", copied)
	t.Logf("%s", status)
	ok(t, err)
	key := hosts.Layout.ObservedKey(h.Name, copied, "backup")
	ok(t, fleet.Until(ctx, backedUpWithin, "a backup of its own", func(ctx context.Context) error {
		value, err := hosts.Get(ctx, key)
		if err != nil {
			return err
		}
		r, err := observed.Decode[observed.Report](kvOf(key, []byte(value)))
		if b, has := r.Repository.Newest(); err != nil || !has || b.Label == first.Label {
			return fmt.Errorf("none yet: %w", err)
		}
		return nil
	}))
	if out, err := h.Exec(ctx, "ls", "/etc/pgbackrest/restore.d"); err == nil && strings.TrimSpace(out) != "" {
		t.Errorf("how to read the other cluster's backups is still on %s: %s", h.Name, out)
	}
	if n := len(numbersOn(ctx, t, h, cluster, 5436)); n < len(all) { // one more may be written that nobody heard of
		t.Errorf("the cluster that was restored from has %d rows of %d", n, len(all))
	}
}

// restoredRowByRow restores a moment in which rows were being written into a cluster on two
// hosts, and compares: every row that was acknowledged by then, and none that was asked for later.
func restoredRowByRow(ctx context.Context, t *testing.T, w *rows, moment time.Time, h, other *lab.Host) (all []row) {
	t.Helper()
	t.Cleanup(func() { copyRemoved(context.WithoutCancel(ctx), t, copied) })
	began := time.Now()
	out, err := hosts.Infra.Command(ctx, "pgctrl", "restore", cluster, "--to", copied, "--on", h.Name+","+other.Name,
		"--time", moment.UTC().Format(time.RFC3339Nano), "--wait", "5m").CombinedOutput()
	t.Logf("%s after %s:\n%s", copied, time.Since(began).Round(time.Millisecond), out)
	ok(t, err)
	all = w.end(t)

	compareRows(t, all, moment, numbersOn(ctx, t, h, copied, 5536))
	return all
}

// compareRows: what was acknowledged before the moment is there, and nothing that was asked for
// after it.
func compareRows(t *testing.T, all []row, moment time.Time, numbers []int) {
	t.Helper()
	have := map[int]bool{}
	for _, n := range numbers {
		have[n] = true
	}
	lost, late, known := 0, 0, 0
	for i, r := range all {
		switch n := i + 1; {
		case r.acked.Before(moment):
			known++
			if !have[n] {
				lost++
			}
		case r.asked.After(moment) && have[n]:
			late++
		}
	}
	t.Logf("%d rows were acknowledged before the moment and %d in all; %d are there", known, len(all), len(have))
	if lost > 0 || late > 0 || known < 150 || len(all) <= known {
		t.Errorf("%d acknowledged rows are lost, %d are there that were asked for later, of %d and %d", lost, late, known, len(all))
	}
}
