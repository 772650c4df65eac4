package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/etcdserver"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
)

// host is a machine with the embedded etcd: its data folder outlives the process.
type host struct {
	t       *testing.T
	o       etcdserver.Options
	writers map[string]bool // members that take writes
	stop    func()
	*clientv3.Client
}

func newHost(t *testing.T, quota int64) *host {
	t.Helper()
	h := &host{t: t, writers: map[string]bool{}, o: etcdserver.Options{
		Name: "here", DataDir: filepath.Join(t.TempDir(), "etcd"), ClientPort: freeport.Take(t), PeerPort: freeport.Take(t), Quota: quota,
	}}
	h.start()
	return h
}

func (h *host) start() {
	h.t.Helper()
	ready, done := make(chan []string, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	o := h.o
	o.Ready = func(urls []string) { ready <- urls }
	go func() { done <- etcdserver.Run(ctx, o) }()
	var urls []string
	select {
	case urls = <-ready:
	case err := <-done:
		h.t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: urls, Logger: zap.NewNop()})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Client = c
	ended := false
	h.stop = func() {
		if !ended {
			ended = true
			c.Close()
			cancel()
			<-done
		}
	}
	h.t.Cleanup(h.stop)
}

// run is a command line on this host; in is what is typed.
func (h *host) run(in string, args ...string) (code int, out string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	var b bytes.Buffer
	env := map[string]string{
		"PGCTRL_ENDPOINTS": "http://127.0.0.1:" + itoa(h.o.ClientPort), "PGCTRL_ETCD_DATA_DIR": h.o.DataDir,
		"PGCTRL_ETCD_NAME": h.o.Name, "PGCTRL_ETCD_ADVERTISE": "127.0.0.1",
	}
	deps := Deps{
		Getenv: func(k string) string { return env[k] },
		Restore: func(_ EtcdOptions, r EtcdRestore) (EtcdRestored, error) {
			out, err := etcdserver.Restore{Options: h.o, File: r.File, Replace: r.Replace, Key: r.Key, Record: r.Record}.Run()
			switch {
			case errors.Is(err, etcdserver.ErrRunning):
				err = ErrEtcdRunning
			case errors.Is(err, etcdserver.ErrNotEmpty):
				err = ErrEtcdNotEmpty
			}
			return EtcdRestored(out), err
		},
		Patroni: func(_ context.Context, url string) (patroni.Status, error) {
			role := patroni.Replica
			if h.writers[url] {
				role = patroni.Primary
			}
			return patroni.Status{State: "running", Role: role}, nil
		},
	}
	code = Run(ctx, args, Streams{In: io.MultiReader(strings.NewReader(in)), Out: &b, Err: &b}, deps)
	return code, b.String()
}

func (h *host) expect(in string, code int, words string, args ...string) string {
	h.t.Helper()
	got, out := h.run(in, args...)
	if got != code || !strings.Contains(out, words) {
		h.t.Fatalf("pgctrl %s: exit code %d, want %d with %q:\n%s", strings.Join(args, " "), got, code, words, out)
	}
	return out
}

func (h *host) put(key, value string) {
	h.t.Helper()
	if _, err := h.Put(h.t.Context(), key, value); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) record() observed.Store {
	h.t.Helper()
	r, err := h.Get(h.t.Context(), keys.Default.StoreKey())
	if err != nil || len(r.Kvs) == 0 {
		h.t.Fatalf("no store record (%v)", err)
	}
	rec, err := observed.Decode[observed.Store](kvOf(r.Kvs[0].Value))
	if err != nil {
		h.t.Fatal(err)
	}
	return rec
}

// TestStoreBackupRestoreAccept is the whole way of a store that was lost.
func TestStoreBackupRestoreAccept(t *testing.T) {
	h, l := newHost(t, 0), keys.Default
	h.put(l.StoreKey(), `{"incarnation":"S1","newest":"","endpoints":["http://127.0.0.1:1"]}`)
	h.put(l.Members("c")+"m1", `{"api_url":"http://m1/patroni"}`)
	h.put(l.Members("c")+"m2", `{"api_url":"http://m2/patroni"}`)
	h.put(l.Leader("c"), "m1")
	h.put(l.AliveKey("pg1"), `{"schema":1,"node":"pg1"}`)
	h.expect("", Done, "nothing to accept: incarnation S1", "etcd", "accept")

	file := filepath.Join(t.TempDir(), "one.snapshot")
	h.expect("", Done, "hash verified", "etcd", "backup", file)
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the snapshot has mode %v (%v); every password is in it", st.Mode(), err)
	}
	h.expect("", Failed, "systemctl stop pgctrl-etcd", "etcd", "restore", file, "--replace")
	h.stop()
	h.expect("", Failed, "restore "+file+" --replace", "etcd", "restore", file)
	h.expect("", Failed, "the snapshot is damaged", "etcd", "restore", damaged(t, file), "--replace")
	h.expect("", Done, "kept     ", "etcd", "restore", file, "--replace")
	h.start()
	if rec := h.record(); rec.Incarnation == "S1" || rec.Restored == nil {
		t.Errorf("the restored store has the record %+v", rec)
	}
	h.expect("", Done, "StoreChanged: etcd was put back from a snapshot", "status")

	h.expect("accept\n", Failed, "it is not clear who leads c", "etcd", "accept")
	h.writers["http://m1/patroni"], h.writers["http://m2/patroni"] = true, true
	h.expect("accept\n", Failed, "it is not clear who leads c", "etcd", "accept")
	delete(h.writers, "http://m2/patroni")
	h.expect("yes\n", Failed, "the word was not typed", "etcd", "accept")
	h.put(l.AliveKey("pg1"), `{"schema":1,"node":"pg1","store":{"incarnation":"S1","revision":900,"at":"2026-08-01T00:00:00Z"}}`)
	was := h.record().Incarnation
	// Its agent is none, so it takes nothing.
	out := h.expect("accept\n", NotConverged, "not taken yet by pg1", "etcd", "accept", "--wait", "200ms")
	if !strings.Contains(out, "known on pg1") || !strings.Contains(out, "S1") {
		t.Errorf("it does not show what pg1 knows:\n%s", out)
	}
	rec := h.record()
	if rec.Restored != nil || !rec.Stands("S1") || !rec.Stands(was) || rec.Incarnation == was {
		t.Errorf("accepted: %+v", rec)
	}
	h.put(l.AliveKey("pg1"), `{"schema":1,"node":"pg1"}`)
	h.expect("", Done, "nothing to accept", "etcd", "accept")
}

func damaged(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	bad := filepath.Join(t.TempDir(), "bad.snapshot")
	if err := os.WriteFile(bad, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return bad
}

// TestFullStore: from half of the quota on it is said; at the whole of it writes are
// refused, deletions are not, and one command heals it.
func TestFullStore(t *testing.T) {
	const quota = 4 << 20
	h, l := newHost(t, quota), keys.Default
	h.put(l.StoreKey(), `{"incarnation":"S1","newest":"","endpoints":["http://127.0.0.1:1"]}`)
	h.expect("", Done, "StoreNotRedundant", "status")
	// The same key again and again: its history is what fills the store.
	big, said := strings.Repeat("x", 100<<10), false
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		// etcd counts its size when it commits, every 100 ms: faster, it would jump from
		// little to full.
		time.Sleep(25 * time.Millisecond)
		if _, err = h.Put(t.Context(), l.Node("pg1"), "address: 10.0.0.11 # "+big); n%2 == 0 && err == nil {
			_, out := h.run("", "status")
			said = said || strings.Contains(out, "StoreFilling: etcd's database is at")
		}
	}
	if err == nil {
		t.Fatal("it never filled up")
	}
	if !said {
		t.Error("StoreFilling was not said before it was full")
	}
	out := h.expect("", Done, "NoSpace: etcd is full", "status")
	if !strings.Contains(out, "next: pgctrl etcd compact") {
		t.Errorf("no next command:\n%s", out)
	}
	h.expect("", Failed, "next: pgctrl etcd compact", "node", "add", "pg2", "10.0.0.12")
	if _, err := h.Delete(t.Context(), "/nothing"); err != nil {
		t.Errorf("DELETE: %v", err)
	}
	h.expect("", Done, "end the alarm", "etcd", "compact")
	if _, out := h.run("", "status"); strings.Contains(out, "NoSpace") || strings.Contains(out, "StoreFilling") {
		t.Errorf("after it was healed:\n%s", out)
	}
	h.put("/k", "v")
}
