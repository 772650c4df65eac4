package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// saveStoreEvery is how often the highest revision seen is put on disk. What a
// crash loses of it only matters to an etcd that went back by less than that.
const saveStoreEvery = 30 * time.Second

// acceptNext is what ends the distrust of a store.
const acceptNext = "pgctrl etcd accept"

// memory is what an agent remembers of the store between two runs. Epochs are not
// among it: who leads is only ever learnt from etcd.
type memory struct {
	// Seen is the store as it was last trusted.
	Seen observed.StoreSeen `json:"seen"`
	// Distrust is there while the store at hand is another one, or the same in an
	// earlier state. It outlives a restart: an etcd that went back passes the
	// revision that gave it away some time later.
	Distrust *distrust `json:"distrust,omitempty"`
}

// distrust is why nothing is taken from the store at hand.
type distrust struct {
	// Incarnation is the one that the store had when it was distrusted.
	Incarnation string `json:"incarnation"`
	Why         string `json:"why"`
}

// judgeStore is the decision of ROLES section 7. It says how the memory goes on
// when the store shows this record (the zero record: it has none) at this revision
// (0: not known, or no answer to a question asked just now). adopted means that
// what was known of revisions and epochs is void.
func judgeStore(m memory, rec observed.Store, rev int64, now time.Time) (next memory, adopted bool) {
	no := func(format string, args ...any) (memory, bool) {
		of := rec.Incarnation
		if of == "" {
			of = m.Seen.Incarnation // without a record it is taken for the one that is known
		}
		if m.Distrust == nil || m.Distrust.Incarnation != of {
			m.Distrust = &distrust{Incarnation: of, Why: fmt.Sprintf(format, args...)}
		}
		return m, false
	}
	seen := m.Seen
	switch back := rev > 0 && rev < seen.Revision; {
	case rec.Restored != nil:
		return no("etcd was put back from a snapshot of %s at revision %d, and nobody has accepted that yet",
			rec.Restored.Taken.UTC().Format(time.RFC3339), rec.Restored.Revision)
	case rec.Incarnation == "" && back, rec.Incarnation == seen.Incarnation && back:
		return no("etcd went back in time: it is at revision %d and was seen at %d", rev, seen.Revision)
	case rec.Incarnation == "":
		return m, false // absence says nothing
	case seen.Incarnation == "" && m.Distrust == nil:
		return memory{Seen: observed.StoreSeen{Incarnation: rec.Incarnation, Revision: rev, At: now}}, false
	case rec.Incarnation == seen.Incarnation:
		if m.Distrust != nil && m.Distrust.Incarnation != rec.Incarnation {
			m.Distrust = nil // the one that was trusted is back, and has not gone back
		}
		return m, false
	case rec.Stands(seen.Incarnation), seen.Incarnation == "" && m.Distrust.Incarnation != rec.Incarnation:
		return memory{Seen: observed.StoreSeen{Incarnation: rec.Incarnation, Revision: rev, At: now}}, true
	}
	return no("etcd has incarnation %s, this node worked with %s", rec.Incarnation, seen.Incarnation)
}

// guard holds the agent's memory of the store. Every part of the agent asks it; it
// calls nobody, and says by news that its answer is another one.
type guard struct {
	path string
	log  *zap.Logger
	news chan struct{}

	mu         sync.Mutex
	memory     memory
	record     observed.Store
	seenAt     time.Time // when Seen.Revision was reached; monotonic
	adoptedAt  time.Time // proofs from before it are of another store
	generation int       // counts adopted stores; what is of another one is void
	saved      memory
	failed     error // why the memory is not on disk
}

// newGuard remembers; fallback is what kept plans tell when the file does not.
func newGuard(dir string, fallback observed.StoreSeen, log *zap.Logger) *guard {
	g := &guard{path: filepath.Join(dir, "store.json"), log: log, news: make(chan struct{}, 1)}
	b, err := os.ReadFile(g.path)
	if err == nil {
		err = json.Unmarshal(b, &g.memory)
	}
	if err != nil || g.memory.Seen.Incarnation == "" && g.memory.Distrust == nil {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Warn("memory of the store can't be read; the kept plans tell", zap.String("file", g.path), zap.Error(err))
		}
		g.memory = memory{Seen: fallback}
	}
	g.saved = g.memory
	return g
}

// look judges the store by its record, and by its revision when that is given.
func (g *guard) look(rec observed.Store, rev int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rec.Incarnation != "" {
		g.record = rec
	}
	next, adopted := judgeStore(g.memory, rec, rev, time.Now())
	g.turn(next)
	if adopted {
		g.generation++
		g.seenAt, g.adoptedAt = time.Now(), time.Now()
		g.log.Warn("took the store that a person accepted", zap.String("incarnation", rec.Incarnation), zap.Strings("replaces", rec.Replaces))
	}
}

// turn takes the next memory; the caller holds mu.
func (g *guard) turn(next memory) {
	before := g.memory
	g.memory = next
	same := before.Seen.Incarnation == next.Seen.Incarnation &&
		(before.Distrust == nil) == (next.Distrust == nil) && (next.Distrust == nil || *before.Distrust == *next.Distrust)
	if same {
		return
	}
	if next.Distrust != nil {
		g.log.Error("the store is not the one that was trusted; everything is kept, nothing acquired or removed",
			zap.String("why", next.Distrust.Why), zap.String("next", acceptNext))
	}
	g.saveLocked()
	poke(g.news)
}

// proven takes a proof of freshness in: a question asked at that moment was
// answered at that revision.
func (g *guard) proven(at time.Time, rev int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !at.After(g.adoptedAt) || g.memory.Distrust != nil {
		return
	}
	switch {
	case rev > g.memory.Seen.Revision:
		g.memory.Seen.Revision, g.memory.Seen.At, g.seenAt = rev, time.Now(), time.Now()
	case rev < g.memory.Seen.Revision && at.After(g.seenAt):
		next, _ := judgeStore(g.memory, g.record, rev, time.Now())
		g.turn(next)
	}
}

// wentBack is proven by a key that had a later revision before.
func (g *guard) wentBack(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.memory.Distrust == nil {
		next := g.memory
		next.Distrust = &distrust{Incarnation: next.Seen.Incarnation, Why: why}
		g.turn(next)
	}
}

// changed is why the store is not trusted; nil: it is.
func (g *guard) changed() *observed.Condition {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.memory.Distrust == nil {
		return nil
	}
	return &observed.Condition{
		Type: observed.Applied, Status: observed.False, Reason: observed.StoreChanged,
		Message: g.memory.Distrust.Why + "; everything is kept, nothing acquired or removed", Next: acceptNext,
	}
}

// trusts reports whether what belongs to the given generation may be acted on.
func (g *guard) trusts(generation int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.memory.Distrust == nil && g.generation == generation
}

// store is the record of the etcd at hand, and the generation of what it says.
func (g *guard) store() (observed.Store, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.record, g.generation
}

// seen is the store as last trusted, for whoever is told that it changed.
func (g *guard) seen() observed.StoreSeen {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.memory.Seen
}

// save puts the memory on disk when it is another one than there.
func (g *guard) save() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.memory.Seen != g.saved.Seen {
		g.saveLocked()
	}
}

func (g *guard) saveLocked() {
	b, err := json.Marshal(g.memory)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(g.path), 0o700)
	}
	if err == nil {
		err = renameio.WriteFile(g.path, b, 0o600)
	}
	if err != nil && g.failed == nil {
		g.log.Error("which store this is could not be put on disk; a restart would know an older state of it", zap.Error(err))
	}
	if g.failed = err; err == nil {
		g.saved = g.memory
	}
}

// show completes a status.
func (g *guard) show(st *Status) {
	rec, _ := g.store()
	st.Incarnation = rec.Incarnation
	st.Distrust = g.changed()
	if seen := g.seen(); seen.Incarnation != "" {
		st.Trusted = &seen
	}
}
