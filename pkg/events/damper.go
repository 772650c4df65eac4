package events

import (
	"strings"
	"time"
)

// Damper keeps something that flaps from filling a cluster's stream: of events that are alike the
// first few are kept as they come, and after that one at a time, which says how many it stands for
// (Event.Repeats). Nothing is dropped without being counted, and the last one is always kept, so
// that a reader knows how it ended.
//
// It is not safe for concurrent use, and takes the time as an argument.
type Damper struct {
	kinds map[string]*flapping
}

// rate is how many alike are kept at once, and how often one is after that.
type rate struct {
	burst int
	every time.Duration
}

// The rates. A failover of a cluster is at most two events that are alike, so ten are five in a
// row. People write documents by the hundred, and a program that answers every change with another
// one is slowed down to one each second.
var (
	ofMoves     = rate{burst: 10, every: 10 * time.Second}
	ofDocuments = rate{burst: 200, every: time.Second}
)

func rateOf(k Kind) rate {
	family, _, _ := strings.Cut(string(k), ".")
	switch family {
	case "document", "operation", "backup", "hook":
		return ofDocuments
	}
	return ofMoves
}

// flapping is what is known of events that are alike.
type flapping struct {
	left   float64
	filled time.Time
	held   *Event
	count  int // of those that held stands for, beside itself
	first  ID  // the oldest of them
}

// alike names what tells events apart that are not counted together.
func alike(e Event) string {
	return strings.Join([]string{e.Cluster, string(e.Kind), e.Node, e.Member, e.Concern, e.Subject, e.Reason}, "\x00")
}

// Offer takes an event and reports whether it is to be kept now. One that is not comes out of Due
// later, or is counted by one that does.
func (d *Damper) Offer(e Event, now time.Time) bool {
	if d.kinds == nil {
		d.kinds = map[string]*flapping{}
	}
	key, r := alike(e), rateOf(e.Kind)
	f := d.kinds[key]
	if f == nil {
		f = &flapping{left: float64(r.burst), filled: now}
		d.kinds[key] = f
	}
	f.fill(r, now)
	if f.held == nil && f.left >= 1 {
		f.left--
		return true
	}
	id, _ := ParseID(e.ID)
	if f.held == nil {
		f.first = id
	} else {
		f.count++
	}
	f.held = &e
	return false
}

func (f *flapping) fill(r rate, now time.Time) {
	f.left = min(float64(r.burst), f.left+float64(now.Sub(f.filled))/float64(r.every))
	f.filled = now
}

// Due returns the events whose time has come, in order, and forgets what has been quiet.
func (d *Damper) Due(now time.Time) []Event {
	var out []Event
	for key, f := range d.kinds {
		r := rateOf(kindIn(key))
		f.fill(r, now)
		if f.held != nil && f.left >= 1 {
			f.left--
			f.held.Repeats = f.count
			out = append(out, *f.held)
			f.held, f.count = nil, 0
		}
		if f.held == nil && f.left >= float64(r.burst) {
			delete(d.kinds, key)
		}
	}
	Sort(out)
	return out
}

func kindIn(key string) Kind {
	parts := strings.SplitN(key, "\x00", 3)
	return Kind(parts[1])
}

// Oldest is the revision of the oldest event that is neither kept nor counted by one that is; 0:
// there is none. Whoever remembers how far the stream has come remembers less than that.
func (d *Damper) Oldest() int64 {
	oldest := int64(0)
	for _, f := range d.kinds {
		if f.held != nil && (oldest == 0 || f.first.Revision < oldest) {
			oldest = f.first.Revision
		}
	}
	return oldest
}

// Next is how long it takes until Due has something; 0: nothing is held.
func (d *Damper) Next(now time.Time) time.Duration {
	next := time.Duration(0)
	for key, f := range d.kinds {
		if f.held == nil {
			continue
		}
		r := rateOf(kindIn(key))
		left := min(float64(r.burst), f.left+float64(now.Sub(f.filled))/float64(r.every))
		wait := max(time.Duration((1-left)*float64(r.every)), time.Millisecond)
		if next == 0 || wait < next {
			next = wait
		}
	}
	return next
}
