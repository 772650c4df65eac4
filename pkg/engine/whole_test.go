package engine

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// long is a plan as plans are: nearly all of it is the text of a file.
func long(word string) string {
	return string(plan.Encode(plan.Plan{
		Schema: plan.Schema, UID: word, Cluster: plan.Cluster{Name: "pg-test"},
		Resources: plan.Resources{plan.Unit{Unit: "u", Program: "haproxy", Files: []plan.File{{Path: "/f", Content: strings.Repeat(word+" ", 2000)}}}},
	}))
}

// TestTheMirrorKeepsNoPlanContents: neither of those it finds nor of those that come. A
// fleet's would be hundreds of megabytes.
func TestTheMirrorKeepsNoPlanContents(t *testing.T) {
	bubble(t, func(f farm) {
		key := layout.PlanKey("n2", "pg-test", "haproxy")
		f.etcd.Put(key, long("found"))
		f.member("pg-test", "x")
		e := f.leader(&fake{name: "haproxy"})
		for _, word := range []string{"found", "written"} {
			f.etcd.Put(key, long(word))
			f.settle()
			held, ok := e.bulk.Snapshot().Get(key)
			if !ok || len(held.Value) > 300 || bytes.Contains(held.Value, []byte(word+" "+word)) {
				t.Errorf("of the plan %q of %d bytes %d are held", word, len(long(word)), len(held.Value))
			}
			if s, err := plan.ReadShort(held.Value); err != nil || s.UID != word || !s.Is([]byte(long(word))) {
				t.Errorf("what is held of the plan %q says %+v, %v", word, s, err)
			}
		}
	})
}

// reads is a controller that reads a stored plan, and remembers what it saw.
type reads struct {
	fake
	mu   sync.Mutex
	seen []string
}

func (r *reads) saw(value []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, string(value))
}

// TestWholePlansAreRead for the controller that wants one, and for no other.
func TestWholePlansAreRead(t *testing.T) {
	key := layout.PlanKey("n2", "pg-test", "haproxy")
	one := func(e kv.KV, _ bool) []kv.KV { return []kv.KV{e} }
	for name, c := range map[string]struct {
		read  func(kv.Snapshot) []kv.KV
		plans float64
	}{
		"one":             {func(s kv.Snapshot) []kv.KV { return one(s.Get(key)) }, 1},
		"all":             {func(s kv.Snapshot) []kv.KV { return s.Range(layout.Prefix(keys.Plan)) }, 1},
		"one, short":      {func(s kv.Snapshot) []kv.KV { return one(kv.GetShort(s, key)) }, 0},
		"all, short":      {func(s kv.Snapshot) []kv.KV { return kv.RangeShort(s, layout.Prefix(keys.Plan)) }, 0},
		"both, one after": {func(s kv.Snapshot) []kv.KV { _ = s.Range(layout.Prefix(keys.Plan)); return one(s.Get(key)) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(f farm) {
				f.member("pg-test", "x")
				f.etcd.Put(key, long("a"))
				r := &reads{}
				r.name = "haproxy"
				r.plan = func(in controllers.Input) (controllers.Result, error) {
					for _, e := range c.read(in.Snapshot) {
						r.saw(e.Value)
					}
					return controllers.Result{Outputs: []controllers.Output{{Key: key, Mode: controllers.Keep}}}, nil
				}
				e := f.leader(r)
				f.settle()
				if got := testutil.ToFloat64(e.metrics.whole); got != c.plans {
					t.Errorf("%v plans were read, want %v", got, c.plans)
				}
				want := long("a")
				if c.plans == 0 {
					want = string(plan.Shorten([]byte(want)))
				}
				if len(r.seen) != 1 || r.seen[0] != want {
					t.Errorf("it saw %.80q", r.seen)
				}
			})
		})
	}
}

// TestAPlanThatIsNotTheOneInMind is not shown: what is planned from two moments is
// wrong for both. It is planned again when the mirror has caught up.
func TestAPlanThatIsNotTheOneInMind(t *testing.T) {
	bubble(t, func(f farm) {
		key, out := layout.PlanKey("n2", "pg-test", "haproxy"), layout.PlanKey("n1", "pg-test", "haproxy")
		f.member("pg-test", "x")
		f.etcd.Put(key, long("a"))
		r := &reads{}
		r.name = "haproxy"
		r.plan = func(in controllers.Input) (controllers.Result, error) {
			if r.called("") == 1 {
				f.etcd.Put(key, long("b")) // after the snapshot was taken
			}
			e, _ := in.Snapshot.Get(key)
			r.saw(e.Value)
			return outputs(out, string(e.Value)), nil
		}
		e := f.leader(r)
		time.Sleep(time.Second) // it backs off, or is woken by the plan's event
		if n := result(e, "haproxy", resultConflict); n != 1 {
			t.Errorf("%v conflicts, want 1", n)
		}
		for _, seen := range r.seen {
			if seen != long("b") {
				t.Errorf("it saw %.40q", seen)
			}
		}
		if got, _, _ := f.etcd.Get(out); got != long("b") {
			t.Errorf("%s is %.80q", out, got)
		}
	})
}

// TestWhatIsSoIsNotWritten, and what is not by a single byte is: plans are compared by
// hash, as exactly as by their contents.
func TestWhatIsSoIsNotWritten(t *testing.T) {
	bubble(t, func(f farm) {
		key := layout.PlanKey("n1", "pg-test", "haproxy")
		f.member("pg-test", "x")
		c := &fake{name: "haproxy", plan: func(controllers.Input) (controllers.Result, error) { return outputs(key, long("a")), nil }}
		f.leader(c)
		f.settle()
		_, first, _ := f.etcd.Get(key)
		f.member("pg-test", "y")
		f.settle()
		if _, rev, _ := f.etcd.Get(key); c.called("") < 2 || rev != first {
			t.Errorf("asked %d times, written at %d and %d", c.called(""), first, rev)
		}
		other := []byte(long("a"))
		other[len(other)/2] ^= 1
		f.etcd.Put(key, string(other))
		f.settle()
		if got, _, _ := f.etcd.Get(key); got != long("a") {
			t.Error("a plan that differs in one bit was left so")
		}
	})
}
