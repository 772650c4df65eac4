package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/snapshot"
)

// What running and restoring the embedded etcd ends with, for the words about it;
// main translates.
var (
	ErrEtcdBroken   = errors.New("etcd can't use its data folder")
	ErrEtcdRunning  = errors.New("an etcd runs with this data folder")
	ErrEtcdNotEmpty = errors.New("the data folder holds a store")
)

// EtcdRestore says what to restore. Key's value is replaced by what Record makes of
// the snapshot's.
type EtcdRestore struct {
	File    string
	Replace bool
	Key     string
	Record  func(old []byte, revision int64) []byte
}

// EtcdRestored is what became of it.
type EtcdRestored struct {
	// Revision is the snapshot's newest, Now the restored store's.
	Revision, Now int64
	// Aside is where the store is that was there before.
	Aside string
}

// snapshotFolder is where the embedded etcd keeps its own snapshots.
func (a *app) snapshotFolder() string {
	return filepath.Clean(a.settings.get("etcd.data_dir")) + "-snapshots"
}

// health asks etcd how it is; nil when it does not tell, which is no error of the
// command that asks.
func (a *app) health(ctx context.Context) *status.StoreHealth {
	c, err := a.connect(ctx)
	if err != nil {
		return nil
	}
	h, err := c.Health(ctx)
	if err != nil {
		return nil
	}
	return &status.StoreHealth{Members: h.Members, Size: h.Size, Quota: h.Quota, NoSpace: h.NoSpace, Corrupt: h.Corrupt, Silent: h.Silent}
}

// etcdWord is the store in the first line of a status.
func (a *app) etcdWord(s status.ClusterStatus) string {
	for _, c := range s.Conditions {
		switch c.Reason {
		case observed.NoSpace, observed.StoreChanged, observed.StoreCorrupt:
			return a.out.red("etcd " + string(c.Reason))
		}
	}
	return "etcd healthy"
}

func (a *app) etcdBackup() *cobra.Command {
	return &cobra.Command{
		Use: "backup [<file>]", Short: "Put everything that etcd holds into a file", Args: cobra.MaximumNArgs(1),
		Long: `Makes a snapshot of the running etcd, compares it with the hash that etcd sends,
and only then gives it its name. It holds every password: keep it as such. The
embedded etcd makes one an hour by itself, beside its data folder, and keeps 24;
they are what etcdctl makes, so either program restores the other's.`,
		Example: "  pgctrl etcd backup\n  pgctrl etcd backup /backup/etcd.snapshot",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			file := "etcd-" + a.deps.Now().UTC().Format("20060102T150405Z") + ".snapshot"
			if len(args) == 1 {
				file = args[0]
			}
			size, err := snapshot.Save(cmd.Context(), func(ctx context.Context) (io.ReadCloser, error) { return c.Snapshot(ctx) }, file)
			if err != nil {
				return fail("%s. Nothing was kept.", err)
			}
			a.say("%s", file)
			a.note("%d kB, hash verified, in %s; next, if it is ever needed: pgctrl etcd restore %s", size>>10, a.elapsed(), file)
			return nil
		},
	}
}

func (a *app) etcdRestore() *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use: "restore [<file>]", Short: "Make the embedded etcd's data folder from a snapshot", Args: cobra.MaximumNArgs(1),
		Long: `Without a file it lists the snapshots that the embedded etcd made.

With one it verifies the hash and builds the data folder of a store of one member
from it, on the host of etcd, while etcd is stopped. A store that is there is only
replaced with --replace, and then kept beside the new one.

The restored store has a new incarnation and revisions that are later than any that
was seen. So no agent and no server takes last week's leader for today's: databases
and routes go on as they are until somebody looks and runs pgctrl etcd accept.`,
		Example: "  pgctrl etcd restore\n  pgctrl etcd restore /var/lib/pgctrl/etcd-snapshots/etcd-20260801T100000Z.snapshot --replace",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listSnapshots()
			}
			return a.restoreEtcd(args[0], replace)
		},
	}
	c.Flags().BoolVar(&replace, "replace", false, "also when there is a store; it is moved aside")
	return withSettings(c, "etcd.name", "etcd.data_dir", "etcd.advertise")
}

func (a *app) listSnapshots() error {
	all, err := snapshot.List(a.snapshotFolder())
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fail("there are no snapshots in %s", a.snapshotFolder()).then("pgctrl etcd restore <file>")
	}
	t := newTable(a.out, "SNAPSHOT", "AGE", ">KB")
	for _, s := range all {
		t.row(s.Path, shortly(a.deps.Now().Sub(s.Taken)), fmt.Sprint(s.Size>>10))
	}
	t.write(a.Out)
	return nil
}

func (a *app) restoreEtcd(file string, replace bool) error {
	if a.deps.Restore == nil {
		return fail("this program was built without etcd")
	}
	o, err := a.etcdOptions()
	if err != nil {
		return err
	}
	o.Log = zap.NewNop() // etcd's own lines are about its inside
	taken, now := snapshot.Taken(file), a.deps.Now()
	id := store.NewIncarnation()
	out, err := a.deps.Restore(o, EtcdRestore{
		File: file, Replace: replace, Key: a.settings.Layout.StoreKey(),
		Record: func(old []byte, revision int64) []byte {
			rec, _ := observed.Decode[observed.Store](kvOf(old)) // none, or one from nobody knows where: a new one
			rec.Incarnation, rec.SnapshotFailed = id, ""
			rec.Restored = &observed.Restored{Revision: revision, Taken: taken.UTC(), At: now.UTC()}
			return observed.Encode(rec)
		},
	})
	switch {
	case errors.Is(err, ErrEtcdRunning):
		return fail("an etcd runs with %s. Nothing was changed.", o.DataDir).then("systemctl stop pgctrl-etcd")
	case errors.Is(err, ErrEtcdNotEmpty):
		return fail("%s holds a store. Nothing was changed.", o.DataDir).
			then("pgctrl etcd restore %s --replace (keeps the store that is there beside the new one)", file)
	case errors.Is(err, snapshot.ErrDamaged):
		return fail("%s. Nothing was changed.", err).then("pgctrl etcd restore (lists the snapshots there are)")
	case errors.Is(err, os.ErrPermission):
		return fail("%s; this needs root", lastWords(err))
	case err != nil:
		return fail("%s", err)
	}
	a.say("restored %s: revision %d of %s, incarnation %s", o.DataDir, out.Revision, taken.UTC().Format(time.RFC3339), id)
	if out.Aside != "" {
		a.say("kept     %s: the store that was there", out.Aside)
	}
	a.note("next: systemctl start pgctrl-etcd, then: pgctrl etcd accept")
	return nil
}

func (a *app) etcdCompact() *cobra.Command {
	return &cobra.Command{
		Use: "compact", Short: "Make room in etcd and end the alarm of a full one", Args: cobra.NoArgs,
		Long: `Forgets etcd's history, gives the room back to the file system (one member after
the other; each stands still meanwhile, about a second per 100 MB), and ends the
NOSPACE alarm, under which every write but deletions is refused. Documents, plans
and Patroni's keys stay as they are; watchers read everything once more. A store
that is full of living keys stays full: raise etcd.quota then.`,
		Example: "  pgctrl etcd compact",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			before, err := c.Health(ctx)
			if err != nil {
				return a.unreachable(err)
			}
			if err := c.Compact(ctx, func(what string) { a.note("%s", what) }); err != nil {
				return fail("%s", lastWords(err)).then("pgctrl status")
			}
			after, err := c.Health(ctx)
			if err != nil {
				return a.unreachable(err)
			}
			a.say("etcd's database: %d kB before, %d kB now, quota %d kB", before.Size>>10, after.Size>>10, after.Quota>>10)
			if observed.Filling(after.Size, after.Quota) {
				a.note("it is still over %d %% of its quota; next: raise etcd.quota in %s, then: systemctl restart pgctrl-etcd", observed.FillingAt, a.settings.File)
			}
			return nil
		},
	}
}

// shortly is a span of time as people say it.
func shortly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}
