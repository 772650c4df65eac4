package simulation

import (
	"container/heap"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// The cluster under test, and what is fixed about it.
const (
	cluster     = "c"
	system      = "7300000000000000001"
	incarnation = "S1"
	nodes       = 3
	servers     = 2
	// tick is how often the driver looks at what others did; every act of the
	// environment happens at its own exact time.
	tick = 10 * time.Millisecond
)

var layout = keys.Default

// World is one run: an etcd, hosts with Patroni, PostgreSQL and HAProxy as models,
// real agents on them and real servers. One goroutine, the driver, changes the
// environment: it sleeps until something is due, waits until every other goroutine
// of the bubble rests, and acts. So what it does and sees depends on the seed alone
// as far as the programs under test let it.
type World struct {
	t    testing.TB
	o    Options
	etcd *model.Server
	log  *zap.Logger
	ctx  context.Context
	seed uint64
	rng  *rand.Rand // the driver's; nobody else draws from it
	born time.Time

	// mu guards everything below and everything of the hosts. No call into a program
	// under test is made with it held.
	mu       sync.Mutex
	hosts    []*host
	servers  []*server
	queue    events
	seq      int
	trace    Trace
	links    map[string]*linkState
	switchTo string // the candidate of a switchover under way
	audit    audit
	check    checker
	acts     []act
	steady   time.Time // when the environment last changed
}

// linkState is what the world does to one process's way to etcd.
type linkState struct {
	cut, slow bool
	cutAt     time.Time
	// healed is when it was last neither cut nor slow any more.
	healed    time.Time
	duplicate bool
	spread    time.Duration // how late a range may be, beside the link's own delay
}

// Options say what is simulated.
type Options struct {
	Seed uint64
	// Profile is which faults there are; "" lets the seed choose.
	Profile string
	// Bug plants a mistake in the programs under test; the simulation must find it.
	Bug string
	// Dir holds the agents' state directories.
	Dir string
	Log *zap.Logger
}

// Result is what came of a run.
type Result struct {
	Trace      Trace
	Violations []Violation
	Profile    string
	Stats      Stats
}

// Run simulates one seed. It must be called inside a bubble.
func Run(t testing.TB, o Options) Result {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &World{
		t: t, o: o, etcd: model.New(), log: o.Log, ctx: ctx, seed: o.Seed,
		rng: rand.New(rand.NewPCG(o.Seed, 0x5eed)), born: time.Now(), links: map[string]*linkState{},
		steady: time.Now(),
	}
	w.check.w, w.audit.w = w, w
	profile := w.setUp()
	w.form()
	if len(w.check.violations) == 0 {
		w.storm(profile)
		w.calm()
	}
	w.mu.Lock()
	res := Result{Trace: w.trace, Violations: w.check.violations, Profile: profile.name, Stats: w.check.stats}
	w.mu.Unlock()
	w.tearDown(cancel)
	return res
}

func (w *World) tearDown(cancel context.CancelFunc) {
	w.mu.Lock()
	var all []*process
	for _, h := range w.hosts {
		all = append(all, h.agents...)
	}
	for _, s := range w.servers {
		all = append(all, s.runs...)
	}
	w.mu.Unlock()
	for _, p := range all {
		if !p.killed() {
			p.kill()
		}
	}
	for name := range w.links {
		w.etcd.Heal(name)
	}
	cancel()
	w.audit.close()
	time.Sleep(time.Minute) // whoever waits for a time-out gets it
	synctest.Wait()
	for _, id := range w.etcd.Leases() {
		w.etcd.ExpireLease(id) // their timers would outlive the bubble
	}
}

func (w *World) elapsed() time.Duration { return time.Since(w.born) }

// event is something due.
type event struct {
	at    time.Time
	label string // orders events of one instant, whoever made them first
	seq   int
	do    func()
}

type events []*event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	a, b := q[i], q[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	if a.label != b.label {
		return a.label < b.label
	}
	return a.seq < b.seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *events) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// after has do called by the driver, with mu held. The caller holds mu.
func (w *World) after(d time.Duration, label string, do func()) {
	w.seq++
	heap.Push(&w.queue, &event{time.Now().Add(d), label, w.seq, do})
}

// run drives the environment for a while.
func (w *World) run(d time.Duration) {
	until := time.Now().Add(d)
	for time.Now().Before(until) {
		w.step(until)
	}
}

// step sleeps until something is due, does it, and looks at everything.
func (w *World) step(until time.Time) {
	next := time.Now().Add(tick)
	w.mu.Lock()
	if len(w.queue) > 0 && w.queue[0].at.Before(next) {
		next = w.queue[0].at
	}
	w.mu.Unlock()
	if until.Before(next) {
		next = until
	}
	time.Sleep(time.Until(next))
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look()
	for len(w.queue) > 0 && !w.queue[0].at.After(time.Now()) {
		heap.Pop(&w.queue).(*event).do()
		w.look()
	}
}

// look takes in what others wrote and did, and checks. The caller holds mu.
func (w *World) look() {
	w.audit.take()
	for _, a := range w.acts {
		w.check.act(a)
	}
	w.acts = nil
	w.check.step()
}

// chance is a number in [0,1) that depends on the seed and the words alone, for
// goroutines that must not draw from the driver's generator.
func (w *World) chance(words ...any) float64 {
	h := fnv.New64a()
	fmt.Fprintln(h, w.seed, words)
	return float64(h.Sum64()>>11) / (1 << 53)
}

// between is a duration drawn by the driver.
func (w *World) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

// lateness is how much later than others a response about one range arrives.
func (w *World) lateness(link, key string, resp clientv3.WatchResponse) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.links[link]
	if l == nil || l.spread == 0 || len(resp.Events) == 0 {
		return 0
	}
	return time.Duration(float64(l.spread) * w.chance("late", link, key, w.elapsed().Round(time.Millisecond)))
}

// copies ranges over how often a response is delivered.
func (w *World) copies(link string, resp clientv3.WatchResponse) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.links[link]; l != nil && l.duplicate && len(resp.Events) > 0 {
		return 2
	}
	return 1
}

func (w *World) isCut(link string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.links[link]
	return l != nil && l.cut
}

func (w *World) dir(name string) string {
	d, err := os.MkdirTemp(w.o.Dir, name+"-")
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}
