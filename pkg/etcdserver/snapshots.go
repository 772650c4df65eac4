package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store/snapshot"
)

// How snapshots are kept: a day of them, one an hour.
const (
	DefaultSnapshotEvery = time.Hour
	DefaultSnapshotKeep  = 24
	// firstSnapshotAfter spares the start, when every client lists everything.
	firstSnapshotAfter = 10 * time.Second
	// snapshotRetry follows a failure: a full disk may have been cleared.
	snapshotRetry = 5 * time.Minute
	// snapshotLimit bounds one: 2 GB at 10 MB/s.
	snapshotLimit = 5 * time.Minute
)

// SnapshotFolder is where the snapshots of a data folder are kept: beside it,
// because a folder is moved as a whole when a snapshot of it is restored.
func SnapshotFolder(dataDir string) string { return filepath.Clean(dataDir) + "-snapshots" }

// snapshots makes one every hour until ctx ends. It goes by the age of the newest
// one that is there, so a member that restarts often does not write them often.
func (o Options) snapshots(ctx context.Context, c *clientv3.Client) {
	dir := SnapshotFolder(o.DataDir)
	source := func(ctx context.Context) (io.ReadCloser, error) { return c.Snapshot(ctx) }
	wait := firstSnapshotAfter
	if all, err := snapshot.List(dir); err == nil && len(all) > 0 {
		wait = max(wait, min(o.SnapshotEvery, time.Until(all[0].Taken.Add(o.SnapshotEvery))))
	}
	wait = min(wait, o.SnapshotEvery)
	for idle.For(ctx, wait) {
		bounded, cancel := context.WithTimeout(ctx, snapshotLimit)
		path, err := snapshot.Keep(bounded, source, dir, o.SnapshotKeep, time.Now())
		cancel()
		if ctx.Err() != nil {
			return
		}
		wait = o.SnapshotEvery
		if err != nil {
			wait = min(wait, snapshotRetry)
			o.Log.Error("snapshot not made; the older ones stay", zap.String("folder", dir), zap.Error(err))
		} else {
			o.Log.Info("snapshot made", zap.String("file", path))
		}
		if err := o.tell(ctx, c, dir, err); err != nil && ctx.Err() == nil {
			o.Log.Warn("state of snapshots not written", zap.String("key", o.StoreKey), zap.Error(err))
		}
	}
}

// tell writes into the store's record that snapshots fail, or do not any more. It
// writes when that changes, and not when the words for it do (R8).
func (o Options) tell(ctx context.Context, c *clientv3.Client, dir string, failed error) error {
	if o.StoreKey == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := c.Get(ctx, o.StoreKey)
	if err != nil || len(r.Kvs) == 0 {
		return err // without a record the server has not been here yet
	}
	e := kv.KV{Key: o.StoreKey, Value: r.Kvs[0].Value}
	rec, err := observed.Decode[observed.Store](e)
	if err != nil || (rec.SnapshotFailed != "") == (failed != nil) {
		return err
	}
	rec.SnapshotFailed = ""
	if failed != nil {
		rec.SnapshotFailed = fmt.Sprintf("no snapshot could be made in %s since %s: %s", dir, time.Now().UTC().Format(time.RFC3339), cause(failed))
	}
	// A conflict is somebody else's write; the next hour has the next chance.
	_, err = c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(o.StoreKey), "=", r.Kvs[0].ModRevision)).
		Then(clientv3.OpPut(o.StoreKey, string(observed.Encode(rec)))).Commit()
	return err
}

// cause is the operating system's word, without names of temporary files.
func cause(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
