package eventlog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var layout = keys.Default

// fleet is an etcd and servers that lead one after the other.
type fleet struct {
	t   *testing.T
	etc *etcdtest.Server
	raw *clientv3.Client
}

func newFleet(t *testing.T) *fleet { return newFleetIn(t, etcdtest.Start(t)) }

func newFleetIn(t *testing.T, s *etcdtest.Server) *fleet {
	return &fleet{t: t, etc: s, raw: s.Client(t)}
}

func (f *fleet) put(key, value string) int64 {
	f.t.Helper()
	resp, err := f.raw.Put(f.t.Context(), key, value)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.Header.Revision
}

// lead runs a stream as a server does that leads; the returned function stops it, politely or as
// a crash would.
func (f *fleet) lead() (stop func(polite bool)) {
	f.t.Helper()
	client, err := store.Connect(f.t.Context(), store.Options{Endpoints: f.etc.Endpoints()})
	if err != nil {
		f.t.Fatal(err)
	}
	l, err := client.Campaign(context.Background(), layout.ElectionKey(), "test", 3*time.Second)
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := New(Options{Client: client, Layout: layout, Log: zaptest.NewLogger(f.t)})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(l.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Lead(ctx, l) }()
	stopped := false
	stop = func(polite bool) {
		if stopped {
			return
		}
		stopped = true
		if !polite {
			_ = l.Resign(context.Background()) // the key goes first: nothing more can be written
		}
		cancel()
		<-ended
		_ = l.Resign(context.Background())
		_ = client.Close()
	}
	f.t.Cleanup(func() { stop(true) })
	return stop
}

func (f *fleet) events(cluster string) []events.Event {
	f.t.Helper()
	resp, err := f.raw.Get(f.t.Context(), layout.ClusterEvents(cluster), clientv3.WithPrefix())
	if err != nil {
		f.t.Fatal(err)
	}
	var out []events.Event
	for _, e := range resp.Kvs {
		var ev events.Event
		if err := json.Unmarshal(e.Value, &ev); err != nil {
			f.t.Fatal(err)
		}
		if e.Version != 1 {
			f.t.Errorf("%s was written %d times", e.Key, e.Version)
		}
		out = append(out, ev)
	}
	events.Sort(out)
	return out
}

// until waits for so many events of a cluster.
func (f *fleet) until(cluster string, n int) []events.Event {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
		got := f.events(cluster)
		if len(got) >= n {
			return got
		}
		if time.Now().After(end) {
			f.t.Fatalf("%d events of %s, want %d: %v", len(got), cluster, n, got)
		}
	}
}

func (f *fleet) begun() {
	f.t.Helper()
	for f.cursor() == "" {
		<-time.After(5 * time.Millisecond)
	}
}

func (f *fleet) cursor() string {
	f.t.Helper()
	resp, err := f.raw.Get(f.t.Context(), layout.EventsCursor())
	if err != nil {
		f.t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func port(n int) string { return fmt.Sprintf("port: %d\n", n) }

// Whatever is written while a server leads, while it dies, and while none runs, is an event, once.
func TestNothingIsLostBetweenServers(t *testing.T) {
	f := newFleet(t)
	key := func(i int) string { return layout.ClusterDoc("c", fmt.Sprint("services/s", i%20)) }
	var want []string
	n := 0
	write := func(count int) {
		for range count {
			n++
			want = append(want, events.ID{Revision: f.put(key(n), port(6000+n))}.String())
		}
	}
	f.put(layout.ClusterDoc("c", "services/before"), port(5999)) // before the first server: no event
	stop := f.lead()
	f.begun()
	write(100)
	f.until("c", 30)
	stop(false) // in the middle of it
	write(100)  // nobody looks
	stop = f.lead()
	write(100)
	stop(true)
	write(5)
	f.lead()
	got := f.until("c", len(want))
	var ids []string
	late := 0
	for _, e := range got {
		ids = append(ids, e.ID)
		if e.Late {
			late++
		}
		if e.Kind != events.DocumentChanged || e.Seen.IsZero() || e.At.IsZero() {
			t.Errorf("%+v", e)
		}
	}
	if !slices.Equal(ids, want) {
		t.Errorf("events %v\nwant   %v", ids, want)
	}
	if late < 100 || late == len(want) {
		t.Errorf("%d of %d events are late, and about a hundred came while nobody looked", late, len(want))
	}
}

// While something flaps the cursor waits for what is held back. What is written meanwhile is behind
// it, so the next server finds it again, and does not write it again.
func TestNothingIsWrittenTwice(t *testing.T) {
	f := newFleet(t)
	stop := f.lead()
	f.begun()
	var want []string
	for i := range 210 { // two hundred are kept as they come
		want = append(want, events.ID{Revision: f.put(layout.ClusterDoc("c", "services/a"), port(6000+i))}.String())
	}
	want = append(want, events.ID{Revision: f.put(layout.ClusterDoc("c", "services/b"), port(7000))}.String())
	f.until("c", 201)
	stop(false)
	f.lead()
	var got []string
	for _, e := range f.until("c", len(want)) {
		got = append(got, e.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("events %v\nwant   %v", got, want)
	}
}

// A crash may be at any moment. So whenever the cursor was written, every event up to it was there:
// also of a transaction that has more events than one of ours can write.
func TestCursorIsNeverAhead(t *testing.T) {
	f := newFleet(t)
	f.lead()
	f.begun()
	cursors := f.raw.Watch(t.Context(), layout.EventsCursor())
	var want []events.ID
	for round := range 5 {
		var ops []clientv3.Op
		for i := range 100 {
			ops = append(ops, clientv3.OpPut(layout.ClusterDoc("c", fmt.Sprint("services/s", i)), port(6000+round)))
		}
		resp, err := f.raw.Txn(t.Context()).Then(ops...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		for i := range ops {
			want = append(want, events.ID{Revision: resp.Header.Revision, N: i})
		}
	}
	f.until("c", len(want))
	looks := 0
	for last := int64(0); last < want[len(want)-1].Revision; {
		for _, ev := range (<-cursors).Events {
			_, _ = fmt.Sscan(string(ev.Kv.Value), &last)
			looks++
			then, err := f.raw.Get(t.Context(), layout.ClusterEvents("c"), clientv3.WithPrefix(), clientv3.WithRev(ev.Kv.ModRevision), clientv3.WithKeysOnly())
			if err != nil {
				t.Fatal(err)
			}
			there := map[string]bool{}
			for _, e := range then.Kvs {
				there[string(e.Key)] = true
			}
			for _, id := range want {
				if id.Revision <= last && !there[layout.EventKey("c", id.String())] {
					t.Fatalf("the cursor was at %d while %s was not there", last, id)
				}
			}
		}
	}
	if looks < 5 {
		t.Errorf("the cursor was looked at %d times", looks)
	}
}

// A server that stops politely says how far it is, so that nothing has to be read again.
func TestCursorIsLeftBehind(t *testing.T) {
	f := newFleet(t)
	stop := f.lead()
	f.begun()
	f.put(layout.ClusterDoc("c", "vip"), "enabled: false\n")
	f.until("c", 1)
	quiet := f.put(layout.Scope("c")+"status", `{"optime":1}`) // of Patroni, and no event
	for range 20 {
		<-time.After(10 * time.Millisecond)
	}
	if at := f.cursor(); at >= fmt.Sprint(quiet) {
		t.Errorf("the cursor is at %s while nothing happens (R8)", at)
	}
	stop(true)
	if at := f.cursor(); at < fmt.Sprint(quiet) {
		t.Errorf("the cursor was left at %s, and revision %d was looked at", at, quiet)
	}
}

// What etcd has forgotten is said, and what is still there of it is told.
func TestGap(t *testing.T) {
	f := newFleet(t)
	stop := f.lead()
	f.begun()
	f.put(layout.ClusterDoc("c", "vip"), "enabled: false\n")
	f.until("c", 1)
	stop(false)
	f.put(layout.ClusterDoc("c", "dns"), "enabled: false\n")
	last := f.put(layout.ClusterDoc("c", "dns"), "enabled: true\n")
	confirmed := f.put(layout.PrimaryKey("c"), string(observed.Encode(observed.Primary{Member: "c-2", Node: "n2", By: "n2", Epoch: 3, Writable: true})))
	both, err := f.raw.Txn(t.Context()).Then(clientv3.OpPut(layout.ClusterDoc("c", "vip"), "enabled: true\n"), clientv3.OpPut(layout.ClusterDoc("c", "monitor"), "enabled: false\n")).Commit()
	if err != nil {
		t.Fatal(err)
	}
	end := f.put("/elsewhere", "x")
	if _, err := f.raw.Compact(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	// What etcd still has is told as ever.
	f.put(layout.Leader("c"), "c-2")
	if _, err := f.raw.Delete(t.Context(), layout.Leader("c")); err != nil {
		t.Fatal(err)
	}
	f.lead()
	got := f.until("c", 7)
	var kinds []string
	for _, e := range got[3:] {
		kinds = append(kinds, string(e.Kind))
	}
	if id := fmt.Sprint(both.Header.Revision, "-1"); got[4].ID != id || !slices.Equal(kinds, []string{"document.changed", "document.changed", "leader.changed", "leader.lost"}) {
		t.Errorf("after that: %v, the second as %s", kinds, got[4].ID)
	}
	got = got[:3]
	if got[1].ID != fmt.Sprint(last, "-0") || got[1].Subject != "dns" || !got[1].Late || got[2].ID != fmt.Sprint(confirmed, "-0") || got[2].Kind != events.PrimaryConfirmed {
		t.Errorf("told of the gap: %+v", got[1:])
	}
	if gap := f.until(events.Fleet, 1); !slices.ContainsFunc(gap, func(e events.Event) bool { return e.Kind == events.StreamGap }) {
		t.Errorf("no word of the gap: %+v", gap)
	}
	next := f.put(layout.ClusterDoc("c", "log"), "enabled: false\n")
	if got := f.until("c", 8); got[7].ID != fmt.Sprint(next, "-0") || got[7].Late {
		t.Errorf("after the gap: %+v", got[7])
	}
}

// The stream is bounded, and a cluster that is busy costs another one nothing.
func TestBounds(t *testing.T) {
	f := newFleet(t)
	f.put(layout.EventKey("d", "1-0"), string(observed.Encode(events.Event{Cluster: "d", ID: "1-0", Seen: time.Now()})))
	f.put(layout.EventKey("d", "nonsense"), "x")
	for i := range MaxPerCluster {
		f.put(layout.EventKey("c", events.ID{Revision: 1, N: i}.String()), string(observed.Encode(events.Event{Cluster: "c", Seen: time.Now()})))
	}
	f.put(layout.EventKey("e", "1-0"), string(observed.Encode(events.Event{Cluster: "e", ID: "1-0", Seen: time.Now().Add(-MaxAge - time.Hour)})))
	f.lead()
	f.begun()
	for i := range 30 {
		f.put(layout.ClusterDoc("c", fmt.Sprint("services/s", i)), port(6000+i))
	}
	f.put(layout.ClusterDoc("e", "dns"), "enabled: false\n")
	for end := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
		c, e := f.events("c"), f.events("e")
		if len(c) == MaxPerCluster && c[len(c)-1].Subject == "services/s29" && len(e) == 1 && e[0].Subject == "dns" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d events of c, the last %+v; %+v of e", len(c), c[len(c)-1], e)
		}
	}
	if resp, _ := f.raw.Get(t.Context(), layout.ClusterEvents("d"), clientv3.WithPrefix()); len(resp.Kvs) != 2 {
		t.Errorf("%d keys of d are left", len(resp.Kvs))
	}
	// Up to where they went is kept: just below the oldest that is left.
	left, _ := f.raw.Get(t.Context(), layout.ClusterEvents("c"), clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend), clientv3.WithLimit(1))
	if got, want := f.floor("c"), left.Kvs[0].ModRevision-1; got != want {
		t.Errorf("events of c are gone up to %d, kept is %d", want, got)
	}
	if c, d, e := f.floor("c"), f.floor("d"), f.floor("e"); d != 0 || e <= c {
		t.Errorf("floors of c, d, e: %d, %d, %d", c, d, e)
	}
}

func (f *fleet) floor(cluster string) int64 {
	f.t.Helper()
	resp, err := f.raw.Get(f.t.Context(), layout.EventsRemoved(cluster))
	if err != nil {
		f.t.Fatal(err)
	}
	r := events.Removed{}
	if len(resp.Kvs) > 0 && json.Unmarshal(resp.Kvs[0].Value, &r) != nil {
		f.t.Fatalf("%s", resp.Kvs[0].Value)
	}
	return r.Revision
}

// What a cluster that is gone leaves goes with its last event; that is the fleet's to know.
func TestClustersThatAreGoneLeaveNothing(t *testing.T) {
	f := newFleet(t)
	old := string(observed.Encode(events.Event{Seen: time.Now().Add(-MaxAge - time.Hour)}))
	last := int64(0)
	for i := range 100 {
		last = f.put(layout.EventKey(fmt.Sprint("gone", i), "1-0"), old)
	}
	f.put(layout.EventsRemoved("gone7"), string(observed.Encode(events.Removed{Revision: 1})))
	f.lead()
	f.begun()
	for i := range 3 { // so many go with each
		f.put(layout.ClusterDoc("c", "dns"), fmt.Sprintf("ttl: %ds\n", i+1))
		f.until("c", i+1)
	}
	resp, err := f.raw.Get(t.Context(), layout.Prefix(keys.Events), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil || len(resp.Kvs) != 3 {
		t.Errorf("%d events are left, want those of c: %v", len(resp.Kvs), err)
	}
	if got := f.floor(keys.Fleet); got != last {
		t.Errorf("the fleet's events are gone up to %d, kept is %d", last, got)
	}
	if got := f.floor("gone7"); got != 0 {
		t.Errorf("a cluster without events keeps %d", got)
	}
}
