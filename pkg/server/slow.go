package server

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

const (
	// slowAt is how long a hundredth of etcd's writes to disk may take before it is said.
	// etcd wants 10 ms (its hardware guide); at its heartbeat of 100 ms elections begin to
	// fail, and with them Patroni's leader key.
	slowAt = 100 * time.Millisecond
	// fastAt is when it is not said any more.
	fastAt = 33 * time.Millisecond
	// slowEvery is how often it is asked, and slowOver for how many times the answer is
	// added up: what is said is about the last five minutes.
	slowEvery = time.Minute
	slowOver  = 5
	// slowEnough writes say something about a hundredth of them.
	slowEnough = 50
)

// slowness remembers what etcd's members told of their disks.
type slowness struct {
	looks map[string][]store.Histogram // by endpoint, oldest first
	said  map[string]time.Duration     // what is told as slow
}

func newSlowness() *slowness {
	return &slowness{looks: map[string][]store.Histogram{}, said: map[string]time.Duration{}}
}

// look takes one answer in and reports whether what there is to say has changed.
func (s *slowness) look(now map[string]store.Histogram) (changed bool) {
	before := maps.Clone(s.said)
	for endpoint, h := range now {
		looks := append(s.looks[endpoint], h)
		if len(looks) > slowOver+1 {
			looks = looks[1:]
		}
		s.looks[endpoint] = looks
		seconds, of := h.Since(looks[0]).Quantile(0.99)
		took := time.Duration(math.MaxInt64)
		if seconds < took.Seconds() {
			took = time.Duration(seconds * float64(time.Second))
		}
		switch {
		case of < slowEnough:
		case took >= slowAt:
			s.said[endpoint] = took
		case took <= fastAt:
			delete(s.said, endpoint)
		}
	}
	return !maps.Equal(before, s.said)
}

// notes are what to tell people. The figure is a bound of etcd's own histogram.
func (s *slowness) notes() []observed.Condition {
	var out []observed.Condition
	for _, endpoint := range slices.Sorted(maps.Keys(s.said)) {
		took := "more than 8 s"
		if d := s.said[endpoint]; d < math.MaxInt64 {
			took = "up to " + d.String()
		}
		out = append(out, observed.Condition{
			Type: observed.Healthy, Status: observed.True, Reason: observed.StoreSlow,
			Message: fmt.Sprintf("one in a hundred of the writes of etcd at %s took %s to reach its disk in the last minutes; it wants 10 ms", endpoint, took),
			Next:    "iostat -x 1 (on the host of etcd), and see what else writes there",
		})
	}
	return out
}

// watchDisk asks etcd about its disk until ctx ends, and calls tell when there is something
// else to say.
func (s *server) watchDisk(ctx context.Context, c *store.Client, tell func([]observed.Condition)) {
	slow := newSlowness()
	tick := time.NewTicker(slowEvery)
	defer tick.Stop()
	for {
		now, err := c.Fsyncs(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Debug("how fast etcd's disk is could not be asked", zap.Error(err))
		}
		if slow.look(now) {
			tell(slow.notes())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
