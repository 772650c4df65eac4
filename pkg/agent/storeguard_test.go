package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestJudgeStore is ROLES section 7 as a story: each line is what the store shows
// next, and whether it is trusted then.
func TestJudgeStore(t *testing.T) {
	s1 := observed.Store{Incarnation: "S1"}
	restored := observed.Store{Incarnation: "S2", Restored: &observed.Restored{Revision: 50}}
	for name, story := range map[string][]struct {
		rec             observed.Store
		rev             int64
		trusted, adopts bool
	}{
		"it goes on":                        {{s1, 100, true, false}, {s1, 200, true, false}, {s1, 0, true, false}},
		"the record is deleted":             {{s1, 100, true, false}, {observed.Store{}, 200, true, false}, {observed.Store{}, 90, false, false}},
		"it went back":                      {{s1, 100, true, false}, {s1, 99, false, false}},
		"back, and past what gave it away":  {{s1, 100, true, false}, {s1, 50, false, false}, {s1, 500, false, false}},
		"back and accepted":                 {{s1, 100, true, false}, {s1, 50, false, false}, {s1.Accept("S3"), 51, true, true}, {s1.Accept("S3"), 60, true, false}},
		"another one":                       {{s1, 100, true, false}, {observed.Store{Incarnation: "S9"}, 900, false, false}},
		"another one, then the first again": {{s1, 100, true, false}, {observed.Store{Incarnation: "S9"}, 900, false, false}, {s1, 120, true, false}},
		"another one, then the first, gone back": {
			{s1, 100, true, false}, {observed.Store{Incarnation: "S9"}, 900, false, false}, {s1, 80, false, false}, {s1, 800, false, false}},
		"another one, accepted": {
			{s1, 100, true, false}, {observed.Store{Incarnation: "S9"}, 900, false, false},
			{observed.Store{Incarnation: "S9"}.Accept("S10", "S1"), 901, true, true}},
		"another one, accepted for others": {
			{s1, 100, true, false}, {observed.Store{Incarnation: "S9"}.Accept("S10", "S7"), 901, false, false}},
		"restored":            {{s1, 100, true, false}, {restored, 1_000_000, false, false}},
		"restored, accepted":  {{s1, 100, true, false}, {restored, 1_000_000, false, false}, {restored.Accept("S3", "S1"), 1_000_001, true, true}},
		"slept through it":    {{s1, 100, true, false}, {restored.Accept("S3", "S1").Accept("S4"), 1_000_001, true, true}},
		"new on a restored":   {{restored, 1_000_000, false, false}, {restored.Accept("S3", "S1"), 1_000_001, true, true}},
		"first seen, no name": {{observed.Store{}, 5, true, false}, {s1, 10, true, false}, {s1, 9, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var m memory
			for i, step := range story {
				next, adopted := judgeStore(m, step.rec, step.rev, t0)
				if trusted := next.Distrust == nil; trusted != step.trusted || adopted != step.adopts {
					t.Fatalf("step %d: trusted %v (%+v), adopted %v; want %v, %v", i+1, trusted, next.Distrust, adopted, step.trusted, step.adopts)
				}
				if next.Distrust == nil && step.rev > next.Seen.Revision {
					next.Seen.Revision = step.rev // as proofs of freshness do
				}
				m = next
			}
		})
	}
}

// TestGuardRemembers: over restarts, also that it distrusts; without its file the
// kept plans tell; and one that can't be read is as good as none.
func TestGuardRemembers(t *testing.T) {
	dir := t.TempDir()
	fallback := observed.StoreSeen{Incarnation: "S0", Revision: 7}
	open := func() *guard { return newGuard(dir, fallback, zap.NewNop()) }
	if got := open().seen(); got != fallback {
		t.Fatalf("without a file: %+v", got)
	}
	g := newGuard(dir, observed.StoreSeen{}, zap.NewNop())
	g.look(observed.Store{Incarnation: "S1"}, 100)
	g.proven(time.Now(), 120)
	g.save()
	if got := open().seen(); got.Incarnation != "S1" || got.Revision != 120 {
		t.Fatalf("it remembers %+v", got)
	}
	g = open()
	g.proven(time.Now(), 110)
	if g.changed() == nil {
		t.Fatal("an etcd that went back is trusted")
	}
	g = open()
	g.look(observed.Store{Incarnation: "S1"}, 500)
	if g.changed() == nil {
		t.Fatal("after a restart an etcd that went back is trusted, because it is past what gave it away")
	}
	if err := os.WriteFile(filepath.Join(dir, "store.json"), []byte(`{"seen":{"incarn`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := open().seen(); got != fallback {
		t.Fatalf("with half a file: %+v", got)
	}
}

// TestGuardIgnoresAnswersToOlderQuestions: two mirrors ask at different times, and
// the slower answer is no proof of going back.
func TestGuardIgnoresAnswersToOlderQuestions(t *testing.T) {
	g := newGuard(t.TempDir(), observed.StoreSeen{}, zap.NewNop())
	g.look(observed.Store{Incarnation: "S1"}, 100)
	early := time.Now()
	g.proven(time.Now(), 200)
	g.proven(early, 150)
	if why := g.changed(); why != nil {
		t.Fatalf("%+v", why)
	}
}
