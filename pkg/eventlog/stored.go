package eventlog

import (
	"context"
	"maps"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// stored knows which events there are, in the order in which they were written, so that none is
// written twice and the oldest can go. It is used by one goroutine at a time, but for has.
type stored struct {
	all      []*entry            // the oldest first; those that are gone are passed over
	clusters map[string][]*entry // the same by cluster
	names    map[string]*entry
	count    int
	floor    map[string]int64 // by cluster: events that were written up to this revision may be gone
}

// entry is a stored event.
type entry struct {
	cluster string
	id      events.ID
	rev     int64 // when it was written
	seen    time.Time
	gone    bool
}

// read lists the events that there are.
func (s *Stream) read(ctx context.Context) (*stored, error) {
	list, _, err := s.Client.List(ctx, s.Layout.Prefix(keys.Events))
	if err != nil {
		return nil, err
	}
	var all []events.Event
	revs := map[string]int64{}
	for _, e := range list {
		ref, err := s.Layout.Parse(e.Key)
		if err != nil {
			continue
		}
		ev, err := observed.Decode[events.Event](e)
		if _, named := events.ParseID(ref.Doc); err != nil || named != nil {
			continue // not ours, and not in the way
		}
		one := events.Event{Cluster: ref.Cluster, ID: ref.Doc, Seen: ev.Seen}
		all, revs[nameOf(one)] = append(all, one), e.ModRevision
	}
	events.Sort(all)
	out := &stored{clusters: map[string][]*entry{}, names: map[string]*entry{}, floor: map[string]int64{}}
	for _, e := range all {
		out.add(e, revs[nameOf(e)])
	}
	floors, _, err := s.Client.List(ctx, s.Layout.AllEventsRemoved())
	if err != nil {
		return nil, err
	}
	for _, e := range floors {
		if ref, err := s.Layout.Parse(e.Key); err == nil {
			r, _ := observed.Decode[events.Removed](e) // what somebody wrote by hand says nothing
			out.floor[ref.Cluster] = r.Revision
		}
	}
	return out, nil
}

func nameOf(e events.Event) string { return e.Cluster + "/" + e.ID }

func (s *stored) has(e events.Event) bool { return s.names[nameOf(e)] != nil }

func (s *stored) add(e events.Event, rev int64) {
	id, err := events.ParseID(e.ID)
	if err != nil || s.has(e) {
		return
	}
	n := &entry{cluster: e.Cluster, id: id, rev: rev, seen: e.Seen}
	s.all, s.clusters[e.Cluster], s.names[nameOf(e)] = append(s.all, n), append(s.clusters[e.Cluster], n), n
	s.count++
}

// written takes in what was written at rev, and what was removed.
func (s *stored) written(batch []events.Event, gone []*entry, rev int64) {
	higher, bare := s.floors(batch, gone)
	for _, e := range batch {
		s.add(e, rev)
	}
	for _, e := range gone {
		e.gone = true
		delete(s.names, e.cluster+"/"+e.id.String())
		s.count--
		s.clusters[e.cluster] = present(s.clusters[e.cluster])
		if len(s.clusters[e.cluster]) == 0 {
			delete(s.clusters, e.cluster)
		}
	}
	s.all = present(s.all)
	maps.Copy(s.floor, higher)
	for _, cluster := range bare {
		delete(s.floor, cluster)
	}
}

// present drops what is gone from the front.
func present(list []*entry) []*entry {
	for len(list) > 0 && list[0].gone {
		list = list[1:]
	}
	return list
}

// tooMuch are events that have to go when a batch comes, most at the most: those of its clusters
// that are too many or too old, and then the oldest of all, of clusters that may be gone.
func (s *stored) tooMuch(batch []events.Event, now time.Time, most int) (out []*entry) {
	coming := map[string]int{}
	for _, e := range batch {
		coming[e.Cluster]++
	}
	chosen := map[*entry]bool{}
	for cluster, n := range coming {
		list := s.clusters[cluster]
		for i, e := range list {
			if len(out) == most || len(list)-i+n <= MaxPerCluster && now.Sub(e.seen) <= MaxAge {
				break
			}
			chosen[e], out = true, append(out, e)
		}
	}
	for _, e := range s.all {
		if len(out) >= most || s.count+len(batch)-len(out) <= MaxInAll && now.Sub(e.seen) <= MaxAge {
			break // a cluster that is gone has no event any more that would make room
		}
		if !e.gone && !chosen[e] {
			out = append(out, e)
		}
	}
	return out
}

// floors are what is to be known of events that go: up to which revision events of a cluster are
// gone, and which clusters have none left. Theirs goes into the fleet's, so that clusters that are
// gone leave nothing for ever.
func (s *stored) floors(batch []events.Event, gone []*entry) (higher map[string]int64, bare []string) {
	left := map[string]int{}
	for _, e := range gone {
		left[e.cluster] = len(s.clusters[e.cluster])
	}
	for _, e := range gone {
		left[e.cluster]--
	}
	for _, e := range batch {
		left[e.Cluster]++
	}
	higher = map[string]int64{}
	for _, e := range gone {
		of := e.cluster
		if left[of] <= 0 {
			of = events.Fleet
		}
		if to := max(e.rev, higher[of]); to > s.floor[of] {
			higher[of] = to
		}
	}
	for cluster, n := range left {
		if n <= 0 && cluster != events.Fleet && s.floor[cluster] > 0 {
			bare = append(bare, cluster)
		}
	}
	return higher, bare
}
