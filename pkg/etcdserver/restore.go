package etcdserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/pgctrl/pgctrl/pkg/store/snapshot"
)

// ErrNotEmpty means that the data folder holds a store already.
var ErrNotEmpty = errors.New("the data folder holds a store")

// revisionBump is how far a restored store is ahead of the snapshot. It must be
// more than was written since then anywhere: watchers then find their revisions
// compacted and read everything again, instead of waiting for revisions that come
// a second time with other contents. A fleet of 1,000 clusters writes about 35
// million a day; the amount is the one that etcd's own documentation advises.
const revisionBump = 1_000_000_000

// Restore says what to restore, and where.
type Restore struct {
	Options
	// File is a snapshot with its hash, as made by snapshot.Save or etcdctl.
	File string
	// Replace moves the store that is there aside instead of refusing.
	Replace bool
	// Key's value is replaced by what Record makes of it (nil: it is not in the
	// snapshot), before anybody can connect.
	Key    string
	Record func(old []byte, revision int64) []byte
}

// Restored is what became of it.
type Restored struct {
	// Revision is the newest of the snapshot, and Now that of the restored store.
	Revision, Now int64
	// Aside is where the store went that was there; empty when there was none.
	Aside string
}

// Run makes the data folder of a store of one member from a snapshot. It is built
// beside its place and moved there when it is whole; until then nothing changes.
func (r Restore) Run() (Restored, error) {
	var out Restored
	o, err := r.withDefaults()
	if err != nil {
		return out, err
	}
	if _, err := snapshot.Verify(r.File); err != nil {
		return out, err
	}
	occupied, err := holdsData(o.DataDir)
	switch {
	case err != nil:
		return out, err
	case occupied && !r.Replace:
		return out, fmt.Errorf("restore to %s: %w", o.DataDir, ErrNotEmpty)
	}
	unlock, err := lockData(o.DataDir)
	if err != nil {
		return out, err
	}
	defer unlock()
	staged := filepath.Clean(o.DataDir) + ".restoring"
	if err := os.RemoveAll(staged); err != nil {
		return out, fmt.Errorf("remove an earlier attempt: %w", err)
	}
	defer func() { _ = os.RemoveAll(staged) }() // it is moved away when all went well
	if err := privateDir(staged); err != nil {
		return out, err
	}
	if out.Revision, out.Now, err = r.build(o, staged); err != nil {
		return out, fmt.Errorf("restore %s: %w", r.File, err)
	}
	if out.Aside, err = exchange(staged, filepath.Clean(o.DataDir), occupied); err != nil {
		return out, err
	}
	return out, syncDir(filepath.Dir(filepath.Clean(o.DataDir)))
}

// exchange puts the staged folder in its place. At no instant is there none: a
// member that starts in that instant would begin an empty store.
func exchange(staged, place string, occupied bool) (aside string, err error) {
	if err := os.MkdirAll(place, 0o700); err != nil {
		return "", fmt.Errorf("make data folder: %w", err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, staged, unix.AT_FDCWD, place, unix.RENAME_EXCHANGE); err != nil {
		return "", fmt.Errorf("move the restored store to its place: %w", err)
	}
	if !occupied {
		return "", nil // what is staged now is an empty folder, removed by the caller
	}
	aside = place + ".before-" + time.Now().UTC().Format("20060102T150405.000Z")
	if err := os.Rename(staged, aside); err != nil {
		return "", fmt.Errorf("keep the old store: %w", err)
	}
	return aside, nil
}

// build makes a data folder out of the snapshot.
func (r Restore) build(o Options, dir string) (was, now int64, err error) {
	snapDir := filepath.Join(dir, "member", "snap")
	if err := os.MkdirAll(snapDir, 0o700); err != nil {
		return 0, 0, fmt.Errorf("make folder: %w", err)
	}
	db := filepath.Join(snapDir, "db")
	if err := snapshot.Extract(r.File, db); err != nil {
		return 0, 0, err
	}
	if was, now, err = r.rewrite(o.Log, db); err != nil {
		return 0, 0, err
	}
	return was, now, bootstrap(o, dir, db)
}

// rewrite makes the database one of a new cluster, later than every revision that
// anybody can have seen, with a new record at Key.
func (r Restore) rewrite(log *zap.Logger, db string) (was, now int64, err error) {
	be := backend.NewDefaultBackend(log, db)
	defer func() {
		be.ForceCommit()
		if cerr := be.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close database: %w", cerr)
		}
	}()
	if err := schema.NewMembershipBackend(log, be).TrimMembershipFromBackend(); err != nil {
		return 0, 0, fmt.Errorf("forget old members: %w", err)
	}
	tx := be.BatchTx()
	tx.LockOutsideApply()
	defer tx.Unlock()
	var last mvcc.Revision
	var record *mvccpb.KeyValue
	err = tx.UnsafeForEach(schema.Key, func(k, v []byte) error {
		rev := mvcc.BytesToRev(k)
		if rev.GreaterThan(last) {
			last = rev
		}
		kv := &mvccpb.KeyValue{}
		if err := proto.Unmarshal(v, kv); err != nil {
			return fmt.Errorf("read revision %d: %w", rev.Main, err)
		}
		if string(kv.Key) == r.Key {
			if record = kv; mvcc.IsTombstone(k) {
				record = nil
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	was, now = last.Main, last.Main+revisionBump
	next := &mvccpb.KeyValue{Key: []byte(r.Key), CreateRevision: now, ModRevision: now, Version: 1}
	var old []byte
	if record != nil {
		old, next.CreateRevision, next.Version = record.Value, record.CreateRevision, record.Version+1
	}
	next.Value = r.Record(slices.Clone(old), was)
	b, err := proto.Marshal(next)
	if err != nil {
		return 0, 0, fmt.Errorf("write %s: %w", r.Key, err)
	}
	tx.UnsafePut(schema.Key, mvcc.RevToBytes(mvcc.Revision{Main: now}, mvcc.NewRevBytes()), b)
	mvcc.UnsafeSetScheduledCompact(tx, now)
	return was, now, nil
}
