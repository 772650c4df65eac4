package etcdserver

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/etcdserver/cindex"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// bootstrap gives a database a log that begins with it: one member, voted for by
// itself, in the way of `etcdutl snapshot restore`.
func bootstrap(o Options, dir, db string) error {
	c := o.config()
	urls, err := types.NewURLsMap(c.InitialCluster)
	if err != nil {
		return fmt.Errorf("name the member: %w", err)
	}
	// The token makes the cluster's id, and the id must be a new one: the raft term begins
	// anew, and Patroni 4 takes a cluster it knows at a lower term for a stale member
	// (StaleEtcdNode) and never speaks to it again (measured on 4.0).
	cluster, err := membership.NewClusterFromURLsMap(o.Log, c.InitialClusterToken+"-"+rand.Text(), urls)
	if err != nil {
		return fmt.Errorf("name the cluster: %w", err)
	}
	be := backend.NewDefaultBackend(o.Log, db)
	defer be.Close()
	cluster.SetBackend(schema.NewMembershipBackend(o.Log, be))
	me := cluster.MemberByName(o.Name)
	cluster.AddMember(me, true)
	const index, term = uint64(1), uint64(1)
	id, clusterID := uint64(me.ID), uint64(cluster.ID())
	metadata, err := proto.Marshal(&etcdserverpb.Metadata{NodeID: &id, ClusterID: &clusterID})
	if err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	w, err := wal.Create(o.Log, filepath.Join(dir, "member", "wal"), metadata)
	if err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	defer w.Close()
	member, err := json.Marshal(me)
	if err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	add, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: &id, Context: member})
	if err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	entry := &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Term: new(term), Index: new(index), Data: add}
	if err := w.Save(&raftpb.HardState{Term: new(term), Vote: &id, Commit: new(index)}, []*raftpb.Entry{entry}); err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	voters := &raftpb.ConfState{Voters: []uint64{id}}
	err = snap.New(o.Log, filepath.Dir(db)).SaveSnap(&raftpb.Snapshot{
		Data:     etcdserver.GetMembershipInfoInV2Format(o.Log, cluster),
		Metadata: &raftpb.SnapshotMetadata{Index: new(index), Term: new(term), ConfState: voters},
	})
	if err != nil {
		return fmt.Errorf("write the log's beginning: %w", err)
	}
	if err := w.SaveSnapshot(&walpb.Snapshot{Index: new(index), Term: new(term), ConfState: voters}); err != nil {
		return fmt.Errorf("write the log's beginning: %w", err)
	}
	cindex.UpdateConsistentIndexForce(be.BatchTx(), index, term)
	be.ForceCommit()
	return nil
}

// holdsData reports whether a folder holds anything of a store.
func holdsData(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into the data folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "member" {
			return true, nil
		}
	}
	return len(entries) > 0, nil
}

// lockTimeout is how long is waited for a member that may just be ending.
const lockTimeout = 2 * time.Second

// lockData refuses a data folder whose member runs.
func lockData(dir string) (unlock func(), err error) {
	f, err := os.Open(filepath.Join(dir, "member", "snap", "db"))
	if os.IsNotExist(err) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(50 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, ErrRunning)
		}
	}
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
