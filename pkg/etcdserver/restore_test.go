package etcdserver

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/store/snapshot"
)

// launch runs a member until stop, and returns a client of it.
func launch(t *testing.T, o Options) (c *clientv3.Client, stop func()) {
	t.Helper()
	ready := make(chan []string, 1)
	ctx, cancel := context.WithCancel(context.Background())
	o.Ready = func(urls []string) { ready <- urls }
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	var urls []string
	select {
	case urls = <-ready:
	case err := <-done:
		cancel()
		t.Fatalf("start: %v", err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: urls, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			c.Close()
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return c, stop
}

func options(t *testing.T) Options {
	return Options{Name: "here", DataDir: filepath.Join(t.TempDir(), "etcd"), ClientPort: freeport.Take(t), PeerPort: freeport.Take(t)}
}

func source(c *clientv3.Client) snapshot.Source {
	return func(ctx context.Context) (io.ReadCloser, error) { return c.Snapshot(ctx) }
}

func mustPut(t *testing.T, c *clientv3.Client, key, value string) int64 {
	t.Helper()
	r, err := c.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func clusterID(t *testing.T, c *clientv3.Client) uint64 {
	t.Helper()
	r, err := c.Get(t.Context(), "/any")
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.ClusterId
}

func value(t *testing.T, c *clientv3.Client, key string) string {
	t.Helper()
	r, err := c.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

// TestRestore: yesterday's content, under a new record, later than anything that
// anybody can have seen since; and the store that was there is not lost.
func TestRestore(t *testing.T) {
	o := options(t)
	file := filepath.Join(t.TempDir(), "one.snapshot")
	c, stop := launch(t, o)
	then := clusterID(t, c)
	mustPut(t, c, "/store", "one")
	was := mustPut(t, c, "/k", "yesterday")
	if _, err := snapshot.Save(t.Context(), source(c), file); err != nil {
		t.Fatal(err)
	}
	today := mustPut(t, c, "/k", "today")
	restore := Restore{Options: o, File: file, Key: "/store", Record: func(old []byte, rev int64) []byte {
		if string(old) != "one" || rev != was {
			t.Errorf("the record is made of %q at revision %d, want \"one\" at %d", old, rev, was)
		}
		return []byte("two")
	}}
	restore.Replace = true
	if _, err := restore.Run(); !errors.Is(err, ErrRunning) {
		t.Fatalf("under a running member: %v, want ErrRunning", err)
	}
	stop()
	restore.Replace = false
	if _, err := restore.Run(); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("over a store with data: %v, want ErrNotEmpty", err)
	}
	restore.Replace = true
	out, err := restore.Run()
	if err != nil {
		t.Fatal(err)
	}
	if out.Revision != was || out.Now != was+revisionBump {
		t.Errorf("restored from revision %d to %d, want %d to %d", out.Revision, out.Now, was, was+revisionBump)
	}
	c, stop = launch(t, o)
	if s, k := value(t, c, "/store"), value(t, c, "/k"); s != "two" || k != "yesterday" {
		t.Errorf("the restored store has %q and %q", s, k)
	}
	// Patroni 4 takes a cluster it knows, at a lower raft term, for a stale member of it,
	// and never speaks to it again.
	if clusterID(t, c) == then {
		t.Errorf("the restored store has the id of the one it replaces, %x", then)
	}
	// Whoever watched the store that was there is told that the past is gone.
	w := <-c.Watch(t.Context(), "/k", clientv3.WithRev(today+1))
	if w.CompactRevision == 0 || !errors.Is(w.Err(), rpctypes.ErrCompacted) {
		t.Errorf("a watch from before the restore: %v", w.Err())
	}
	if rev := mustPut(t, c, "/k", "again"); rev <= today {
		t.Errorf("revision %d after the restore, %d before", rev, today)
	}
	stop()
	before := o
	before.DataDir = out.Aside
	c, _ = launch(t, before)
	if k := value(t, c, "/k"); k != "today" {
		t.Errorf("the store moved aside has %q", k)
	}
}

func TestRestoreRefusesADamagedSnapshot(t *testing.T) {
	o := options(t)
	file := filepath.Join(t.TempDir(), "one.snapshot")
	c, stop := launch(t, o)
	mustPut(t, c, "/k", "v")
	if _, err := snapshot.Save(t.Context(), source(c), file); err != nil {
		t.Fatal(err)
	}
	stop()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"a byte differs": slices.Replace(slices.Clone(b), 5000, 5001, b[5000]^1),
		"cut short":      b[:len(b)/2],
		"no hash":        b[:len(b)-32],
		"empty":          nil,
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Restore{Options: o, File: file, Key: "/k", Replace: true}.Run()
			if !errors.Is(err, snapshot.ErrDamaged) {
				t.Errorf("%v, want ErrDamaged", err)
			}
			if _, err := os.Stat(filepath.Join(o.DataDir, "member", "snap", "db")); err != nil {
				t.Errorf("the store that was there is gone: %v", err)
			}
		})
	}
}

// TestSnapshotsAreMade: the member itself keeps the last few, and when there is no
// room the older ones stay and the store's record says so, once.
func TestSnapshotsAreMade(t *testing.T) {
	o := options(t)
	o.SnapshotEvery, o.SnapshotKeep, o.StoreKey = 1100*time.Millisecond, 2, "/store"
	c, _ := launch(t, o)
	mustPut(t, c, "/store", `{"incarnation":"S1","newest":"","endpoints":null}`)
	dir := SnapshotFolder(o.DataDir)
	until(t, "two snapshots", func() bool { all, _ := snapshot.List(dir); return len(all) == 2 })
	first, _ := snapshot.List(dir)
	until(t, "a third in place of the first", func() bool {
		all, _ := snapshot.List(dir)
		return len(all) == 2 && all[1] == first[0]
	})
	// A folder that is none fails as a full disk does: nothing can be written there.
	if err := os.Rename(dir, dir+".saved"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the record says so", func() bool { return strings.Contains(value(t, c, "/store"), "no snapshot could be made") })
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	until(t, "the record is as before", func() bool { return !strings.Contains(value(t, c, "/store"), "no snapshot") })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestBrokenDataFolder: whatever a crash or a person left there, the member starts
// or says that its folder is the trouble. It never ends the process by itself.
func TestBrokenDataFolder(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"the database is cut short": func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, "member/snap/db"), 5000) },
		"the database is garbage":   func(t *testing.T, dir string) { garbage(t, filepath.Join(dir, "member/snap/db")) },
		"the log is garbage": func(t *testing.T, dir string) {
			garbage(t, filepath.Join(dir, "member/wal/0000000000000000-0000000000000000.wal"))
		},
		"the log is missing": func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "member/wal")) },
		"something else is in there": func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "member"))
			garbage(t, filepath.Join(dir, "member"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			c, stop := launch(t, o)
			mustPut(t, c, "/k", "v")
			stop()
			spoil(t, o.DataDir)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			o.Ready = func([]string) { cancel() }
			if err := Run(ctx, o); !errors.Is(err, ErrBroken) {
				t.Errorf("%v, want ErrBroken", err)
			}
		})
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func garbage(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Repeat("garbage ", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// TestDatabaseComesBackFromTheLog: without a snapshot in it, the log has everything.
func TestDatabaseComesBackFromTheLog(t *testing.T) {
	o := options(t)
	c, stop := launch(t, o)
	mustPut(t, c, "/k", "v")
	stop()
	remove(t, filepath.Join(o.DataDir, "member/snap"))
	c, _ = launch(t, o)
	if k := value(t, c, "/k"); k != "v" {
		t.Errorf("it has %q", k)
	}
}
