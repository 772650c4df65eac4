package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// What a person can hold by hand, for a while.
const (
	// OverrideRoute holds a cluster's read-write routes at Member.
	OverrideRoute = "route"
	// OverrideVIP has this node take or drop a cluster's address, as Act says; package
	// plan decides what that is worth (plan.Hand).
	OverrideVIP = "vip"
)

// MaxOverride is the longest that anything may be held by hand: whoever wants it for
// longer wants another document.
const MaxOverride = 24 * time.Hour

// ErrOverride means that what was asked for can't be held.
var ErrOverride = errors.New("can't hold this by hand")

// ErrUnknown means that it can be held only by somebody who knows what the agent
// can't find out.
var ErrUnknown = errors.New("this can't be found out")

// Override is one thing that a person holds on this node, against what the agent
// would do. It works with etcd away, outlives the agent (not a boot of the host),
// and ends by itself.
type Override struct {
	Kind    string `json:"kind"`
	Cluster string `json:"cluster"`
	Member  string `json:"member,omitempty"` // of a route
	// Act is a vip's; Knowing: etcd could not be asked when it was taken, as was said
	// knowingly.
	Act     plan.HandAct `json:"act,omitempty"`
	Knowing bool         `json:"knowing,omitempty"`
	// For is how long it was asked for; Until the wall time at which it ends. The
	// agent that took it counts For on the monotonic clock; the next one takes what
	// is left until Until, and at most For, so a clock set back prolongs nothing.
	For   time.Duration `json:"for_nanoseconds"`
	Until time.Time     `json:"until"`
	By    string        `json:"by,omitempty"`
}

// String is what is held.
func (o Override) String() string {
	switch {
	case o.Kind == OverrideVIP && o.Act == plan.HandDrop:
		return fmt.Sprintf("virtual address of %s kept off this node", o.Cluster)
	case o.Kind == OverrideVIP && o.Knowing:
		return fmt.Sprintf("virtual address of %s taken to this node without etcd", o.Cluster)
	case o.Kind == OverrideVIP:
		return fmt.Sprintf("virtual address of %s taken to this node", o.Cluster)
	}
	return fmt.Sprintf("read-write routes of %s held at %s", o.Cluster, o.Member)
}

// Off is the command that ends it.
func (o Override) Off() string {
	if o.Kind == OverrideVIP {
		return fmt.Sprintf("pgagent vip %s %s --off", o.Act, o.Cluster)
	}
	return fmt.Sprintf("pgagent route %s --off", o.Cluster)
}

// condition says in a report that something is held. It is true: nothing is wrong,
// and people should know.
func (o Override) condition(node string) observed.Condition {
	by := ""
	if o.By != "" {
		by = " by " + o.By
	}
	return observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.Overridden,
		Message: fmt.Sprintf("%s by hand on node %s%s, until %s", o, node, by, o.Until.UTC().Format(time.RFC3339)),
		Next:    fmt.Sprintf("%s (on %s)", o.Off(), node),
	}
}

// hold is the targets of a unit with its read-write routes held at one member. What
// has no such server is left as it was resolved.
func (o Override) hold(u plan.Unit) plan.Targets {
	out := maps.Clone(u.Targets)
	for backend, r := range u.Routes {
		if r.Role != plan.RoutePrimary || !slices.ContainsFunc(r.Servers, func(s plan.RouteServer) bool { return s.Name == o.Member }) {
			continue
		}
		if out == nil {
			out = plan.Targets{}
		}
		servers := make(map[string]plan.Target, len(r.Servers))
		for _, s := range r.Servers {
			servers[s.Name] = plan.Target{Held: plan.Down, Start: plan.Down}
		}
		servers[o.Member] = plan.Target{Held: plan.Up, Start: plan.Up}
		out[backend] = servers
	}
	return out
}

type overrideKey struct{ kind, cluster string }

// overrides are what is held on this node, one of a kind for each cluster.
type overrides struct {
	path string
	log  *zap.Logger

	mu   sync.Mutex
	all  map[overrideKey]Override
	ends map[overrideKey]time.Time // monotonic
}

// newOverrides takes up what an earlier agent held.
func newOverrides(path string, log *zap.Logger, now time.Time) *overrides {
	s := &overrides{path: path, log: log, all: map[overrideKey]Override{}, ends: map[overrideKey]time.Time{}}
	if path == "" {
		return s
	}
	var kept []Override
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error("what was held by hand can't be read, so it is not any more", zap.String("file", path), zap.Error(err))
	}
	for _, o := range kept {
		left := min(o.For, MaxOverride, o.Until.Sub(now.Round(0)))
		if left <= 0 {
			continue
		}
		k := overrideKey{o.Kind, o.Cluster}
		s.all[k], s.ends[k] = o, now.Add(left)
		log.Warn("still held by hand", zap.Stringer("override", o), zap.Duration("left", left))
	}
	return s
}

// set holds something from now on, in the place of what was held of its kind. The
// error says that it would not outlive the agent; it is in force all the same.
func (s *overrides) set(o Override, now time.Time) (Override, error) {
	o.Until = now.Add(o.For).Round(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := overrideKey{o.Kind, o.Cluster}
	s.all[k], s.ends[k] = o, now.Add(o.For)
	s.log.Warn("held by hand", zap.Stringer("override", o), zap.Duration("for", o.For), zap.String("by", o.By))
	return o, s.saveLocked()
}

// off ends what is held, for a person or because of why; false: nothing was.
func (s *overrides) off(kind, cluster, by, why string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := overrideKey{kind, cluster}
	o, held := s.all[k]
	if held {
		s.log.Warn("no longer held by hand", zap.Stringer("override", o), zap.String("by", by), zap.String("why", why))
		s.dropLocked(k)
	}
	return held
}

// etcdBack notes that etcd can be asked again: what was said without it counts no
// more when it goes away another time.
func (s *overrides) etcdBack(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := overrideKey{OverrideVIP, cluster}
	if o, held := s.all[k]; held && o.Knowing {
		o.Knowing = false
		s.all[k] = o
		s.keepLocked()
	}
}

// get is what is held at this moment.
func (s *overrides) get(kind, cluster string, now time.Time) (Override, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := overrideKey{kind, cluster}
	o, held := s.all[k]
	if held && !now.Before(s.ends[k]) {
		s.log.Warn("no longer held by hand: its time is over", zap.Stringer("override", o))
		s.dropLocked(k)
		held = false
	}
	return o, held
}

// list is all that is held at this moment.
func (s *overrides) list(now time.Time) []Override {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Override
	for k, o := range s.all {
		if now.Before(s.ends[k]) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b Override) int { return a.Until.Compare(b.Until) })
	return out
}

func (s *overrides) dropLocked(k overrideKey) {
	delete(s.all, k)
	delete(s.ends, k)
	s.keepLocked()
}

func (s *overrides) keepLocked() {
	if err := s.saveLocked(); err != nil {
		s.log.Error("what is held by hand not written", zap.Error(err))
	}
}

func (s *overrides) saveLocked() error {
	if s.path == "" {
		return nil
	}
	kept := slices.SortedFunc(maps.Values(s.all), func(a, b Override) int { return a.Until.Compare(b.Until) })
	b, err := json.Marshal(kept)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(s.path), 0o755)
	}
	if err == nil {
		err = renameio.WriteFile(s.path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	return nil
}
