package store

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/beat"
	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Change is one key that is not what it was. New is nil when the key was
// deleted, Old when it did not exist.
type Change struct {
	Key      string
	Old, New *kv.KV
	// Initial marks what the very first list found.
	Initial bool
}

// MirrorOptions say what to mirror and how closely. Only Prefixes is required.
type MirrorOptions struct {
	// Name is the mirror's name in logs and metrics.
	Name string
	// Prefixes are ranges when they end with "/", else single keys.
	Prefixes []string
	// Stream, when set, gives the mirror a gRPC stream of its own under that name,
	// so that no other mirror's traffic can delay it. Mirrors without share one.
	Stream string
	// Project reduces a key to what anybody acts on. A write that leaves the
	// projection as it was updates the snapshot and is no Change. Nil: the value.
	// A key that was deleted and created again is always a Change.
	Project func(kv.KV) []byte
	// Keep reduces a key to what the snapshot may hold: a mirror of secrets keeps no
	// value. Nil keeps everything. Project is given what Keep returned.
	Keep func(kv.KV) kv.KV
	// Index gives a key further places to be found by, see Indexed. Two keys must not
	// get one place. It is given what Keep returned.
	Index func(kv.KV) []string
	// ProbeEvery is how often freshness is proven; 1 s when zero. Beat says when.
	ProbeEvery time.Duration
	Beat       beat.Beat
	// StaleAfter is how long the mirror goes without a proof before it gives up the
	// watch and lists again; 5 s when zero.
	StaleAfter time.Duration
	// CompareEvery is how often everything is read again and compared; 10 min when zero.
	CompareEvery time.Duration
	Log          *zap.Logger
}

// Defaults of MirrorOptions.
const (
	DefaultProbeEvery   = time.Second
	DefaultStaleAfter   = 5 * time.Second
	DefaultCompareEvery = 10 * time.Minute
)

// Mirror keeps a copy of some key ranges and says how fresh it is.
type Mirror struct {
	client *Client
	o      MirrorOptions
	log    *zap.Logger

	now   atomic.Pointer[view]
	ready chan struct{}
	ask   chan struct{} // asks for a proof of freshness now

	mu       sync.Mutex
	onChange []func(rev int64, cs []Change)
	fresh    freshness
	proven   chan struct{} // closed and replaced at every proof

	loaded      bool // the first list is done; only Run's goroutine touches it
	generation  int  // of the stream; a new one after each silence
	divergences atomic.Int64
	relists     atomic.Int64
}

// freshness is the newest proof: everything written up to rev was in the mirror
// when somebody asked at the moment at.
type freshness struct {
	at  time.Time
	rev int64
	had int64 // what the view had reached when the question was asked
}

// NewMirror prepares a mirror; Run makes it work. A mirror of nothing panics.
func NewMirror(c *Client, o MirrorOptions) *Mirror {
	if len(o.Prefixes) == 0 {
		panic("store: mirror " + o.Name + " has no prefixes")
	}
	o.Prefixes = distinct(o.Prefixes)
	o.ProbeEvery = orDefault(o.ProbeEvery, DefaultProbeEvery)
	o.StaleAfter = orDefault(o.StaleAfter, DefaultStaleAfter)
	o.CompareEvery = orDefault(o.CompareEvery, DefaultCompareEvery)
	if o.Project == nil {
		o.Project = func(e kv.KV) []byte { return e.Value }
	}
	if o.Keep == nil {
		o.Keep = func(e kv.KV) kv.KV { return e }
	}
	if o.Index == nil {
		o.Index = func(kv.KV) []string { return nil }
	}
	m := &Mirror{
		client: c, o: o,
		log:    logger(o.Log).With(zap.String("mirror", o.Name)),
		ready:  make(chan struct{}),
		ask:    make(chan struct{}, 1),
		proven: make(chan struct{}),
	}
	m.now.Store(emptyView(o.Prefixes))
	return m
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// distinct sorts prefixes and drops those that another one covers, so that no
// event arrives twice.
func distinct(prefixes []string) []string {
	var out []string
	for _, p := range slices.Sorted(slices.Values(prefixes)) {
		if n := len(out); n > 0 && (out[n-1] == p || strings.HasSuffix(out[n-1], "/") && strings.HasPrefix(p, out[n-1])) {
			continue
		}
		out = append(out, p)
	}
	return out
}

// OnChange registers a callback for every batch of changes, in revision order
// within each prefix (each has a watch of its own, and etcd orders no two). It runs after the snapshot that holds them is visible, never concurrently with
// itself or another callback of this mirror, and must not block: the mirror
// stands still meanwhile. Register before Run; later, earlier changes are missed.
func (m *Mirror) OnChange(f func(rev int64, cs []Change)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onChange = append(m.onChange, f)
}

// Ready is closed when the first complete list is visible and announced.
func (m *Mirror) Ready() <-chan struct{} { return m.ready }

// Snapshot is what the mirror holds now. It is immutable and costs nothing.
func (m *Mirror) Snapshot() Indexed { return m.now.Load() }

// Indexed is a snapshot that can also be read by MirrorOptions.Index; those of a
// mirror can.
type Indexed interface {
	kv.Snapshot
	// RangeIndex returns the keys whose place begins with prefix, sorted by place.
	RangeIndex(prefix string) []kv.KV
}

// Reached is the revision up to which the mirror knows the key's range.
func (m *Mirror) Reached(key string) int64 { return m.now.Load().reachedFor(key) }

// Fresh returns the moment (with its monotonic reading) at which the newest proof
// was *asked* for, and the revision that the mirror had reached by its answer.
// The zero time means never. A mirror that is cut off grows old here, whatever
// its watch believes.
func (m *Mirror) Fresh() (at time.Time, rev int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fresh.at, m.fresh.rev
}

// Divergences counts keys that a full compare found different from etcd. It
// stays 0 unless etcd or this program has a fault.
func (m *Mirror) Divergences() int64 { return m.divergences.Load() }

// Relists counts full lists after the first one.
func (m *Mirror) Relists() int64 { return m.relists.Load() }

// Sync waits until the mirror holds everything that was written before the call.
func (m *Mirror) Sync(ctx context.Context) error {
	asked := time.Now()
	for {
		m.mu.Lock()
		at, proven := m.fresh.at, m.proven
		m.mu.Unlock()
		if !at.IsZero() && !at.Before(asked) {
			return nil
		}
		select {
		case m.ask <- struct{}{}:
		default:
		}
		select {
		case <-proven:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// prove records a proof unless a newer one is known.
func (m *Mirror) prove(f freshness) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.at.Before(m.fresh.at) {
		return
	}
	m.fresh = f
	close(m.proven)
	m.proven = make(chan struct{})
}

// Run lists, watches and proves freshness until ctx ends. Whatever goes wrong it
// tries again; the last snapshot stays visible meanwhile and Fresh tells its age.
func (m *Mirror) Run(ctx context.Context) error {
	wait := newBackoff(50*time.Millisecond, 2*time.Second)
	for {
		started := time.Now()
		err := m.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errSilent) {
			// The stream itself may hang, and with it every later watch on it.
			m.generation++
		}
		m.log.Warn("mirror lists again", zap.Error(err), zap.Int64("revision", m.now.Load().rev))
		if time.Since(started) > 10*time.Second {
			wait.Reset()
		}
		if !idle.For(ctx, wait.NextBackOff()) {
			return nil
		}
	}
}

// session is one list and the watch that continues it. It always returns an error.
func (m *Mirror) session(ctx context.Context) error {
	asked := time.Now()
	next, err := m.list(ctx)
	if err != nil {
		return err
	}
	m.replace(next)
	m.prove(freshness{at: asked, rev: next.rev})
	return m.follow(ctx)
}

// replace makes a fresh list visible and announces how it differs from what was
// known: after a compaction, that is the only word of a deletion.
func (m *Mirror) replace(next *view) {
	old := m.now.Load()
	if m.loaded {
		m.relists.Add(1)
	}
	changes := m.diff(old, next)
	m.now.Store(next)
	m.announce(next.rev, changes)
	if !m.loaded {
		m.loaded = true
		close(m.ready)
	}
}

func (m *Mirror) announce(rev int64, cs []Change) {
	if len(cs) == 0 {
		return
	}
	m.mu.Lock()
	callbacks := slices.Clone(m.onChange)
	m.mu.Unlock()
	for _, f := range callbacks {
		f(rev, cs)
	}
}

// matters reports whether going from old to new concerns anybody.
func (m *Mirror) matters(old, new *kv.KV) bool {
	if old == nil || new == nil {
		return old != new
	}
	return old.CreateRevision != new.CreateRevision || !bytes.Equal(m.o.Project(*old), m.o.Project(*new))
}
