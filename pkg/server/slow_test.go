package server

import (
	"math"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// disk makes histograms as etcd counts: writes since its start.
type disk struct{ fast, slow uint64 }

func (d *disk) write(fast, slow uint64) map[string]store.Histogram {
	d.fast, d.slow = d.fast+fast, d.slow+slow
	return map[string]store.Histogram{"http://etcd:2379": {
		0.008: d.fast, 0.032: d.fast, 0.128: d.fast + d.slow, math.Inf(1): d.fast + d.slow,
	}}
}

func told(s *slowness) string {
	var out []string
	for _, c := range s.notes() {
		if c.Reason != observed.StoreSlow || c.Bad() {
			out = append(out, "not a note: "+c.String())
		}
		out = append(out, c.Message)
	}
	return strings.Join(out, "; ")
}

// TestSlowDisk: what counts is what was written in the last minutes, and not the months
// before; it is said once, and taken back once.
func TestSlowDisk(t *testing.T) {
	s, d := newSlowness(), &disk{fast: 1e9}
	changes := 0
	look := func(fast, slow uint64) string {
		if s.look(d.write(fast, slow)) {
			changes++
		}
		return told(s)
	}
	for range 10 {
		if got := look(1000, 5); got != "" {
			t.Fatalf("of a fast disk it is told: %s", got)
		}
	}
	if got := look(200, 200); !strings.Contains(got, "etcd at http://etcd:2379 took up to 128ms") {
		t.Fatalf("of a slow disk: %q", got)
	}
	for range 3 {
		look(200, 200)
	}
	for range slowOver + 1 {
		look(1000, 0)
	}
	if got := told(s); got != "" || changes != 2 {
		t.Errorf("afterwards: %q, and it changed %d times", got, changes)
	}
}

func TestSlowDiskNeedsWrites(t *testing.T) {
	s, d := newSlowness(), &disk{}
	s.look(d.write(0, 0))
	s.look(d.write(10, 10))
	if got := told(s); got != "" {
		t.Errorf("twenty writes say: %s", got)
	}
	s.look(d.write(50, 50))
	s.look(map[string]store.Histogram{"http://etcd:2379": {math.Inf(1): 3}}) // started anew
	if got := told(s); got == "" {
		t.Error("its new start says that the disk is fast")
	}
}
