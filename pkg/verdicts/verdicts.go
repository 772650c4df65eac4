// Package verdicts decides whether something that somebody is about to do to a cluster may be
// done, from what hooks say that asked to be asked (before: in their documents): types and pure
// functions only. Package arbiter asks the hooks; commands write the question and wait.
//
// Promises: nothing is allowed because an answer was not understood; one hook that refuses is
// enough; every question has an answer once its last hook's deadline is over. What nobody
// planned never waits for a hook: there is no question about a failover.
package verdicts

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Schema is the version of the record and of the question.
const Schema = 1

// The operations that hooks are asked about.
const (
	Switchover = "switchover"
	Restart    = "restart"
	Reinit     = "reinit"
	Restore    = "restore"
	Remove     = "remove"
)

// State is what a hook has said, or all of them together. A verdict is asking, allowed or refused.
type State string

// The states.
const (
	Asking  State = "asking"
	Allowed State = "allowed"
	Refused State = "refused"
	Delayed State = "delayed" // it wants to be asked again
	Failed  State = "failed"  // it was asked and gave no answer that counts; it is asked again
	Timeout State = "timeout" // its deadline is over
)

// Final reports whether nothing follows any more.
func (s State) Final() bool { return s == Allowed || s == Refused || s == Timeout }

// Verdict is a question and what came of it: /pgctrl/verdicts/<cluster>/<id>. Who wants to do
// something writes it and waits for its final state; the server that leads writes the rest.
type Verdict struct {
	Schema    int    `json:"schema"`
	ID        string `json:"id"`
	Cluster   string `json:"cluster"`
	Operation string `json:"operation"`
	// Subject is what it is done to: members, or the cluster.
	Subject string `json:"subject"`
	By      string `json:"by"`
	Why     string `json:"why,omitempty"`
	// Asked and Deadline, the latest of the hooks', are by the clock of who asks.
	Asked    time.Time `json:"asked"`
	Deadline time.Time `json:"deadline"`
	State    State     `json:"state"`
	Hooks    []Hook    `json:"hooks"`
	// DecidedBy is who decided: a hook, all of them, or who goes on without asking.
	DecidedBy string `json:"decided_by,omitempty"`
}

// Hook is one of those that are asked.
type Hook struct {
	Name string `json:"name"`
	// Fleet: it is one of all clusters, else the cluster's own.
	Fleet bool `json:"fleet,omitempty"`
	// WithinMS is how long being asked may take in all, and OnTimeout what it means when that
	// is over: as the document said when the question was made. Deadline follows from it, by the
	// clock of whoever wrote it last.
	WithinMS  int64     `json:"within_ms"`
	OnTimeout string    `json:"on_timeout"`
	Deadline  time.Time `json:"deadline"`
	State     State     `json:"state"`
	// Message is in the hook's own words, or why there are none.
	Message string `json:"message,omitempty"`
	// Again is when it is asked again.
	Again  *time.Time `json:"again,omitempty"`
	Tries  int        `json:"tries,omitempty"`
	TookMS int64      `json:"took_ms,omitempty"`
}

// String names the hook as people read it.
func (h Hook) String() string {
	if h.Fleet {
		return h.Name + " (fleet)"
	}
	return h.Name
}

// Key is the key of the hook's document.
func (h Hook) Key(l keys.Layout, cluster string) string {
	if h.Fleet {
		return l.FleetHook(h.Name)
	}
	return l.ClusterDoc(cluster, hooks.Subject(h.Name))
}

// Within is how long being asked may take in all.
func (h Hook) Within() time.Duration { return time.Duration(h.WithinMS) * time.Millisecond }

// allows is what a timeout means; anything but the word means no.
func (h Hook) allows() bool { return h.OnTimeout == "allow" }

func (h Hook) refuses() bool { return h.State == Refused || h.State == Timeout && !h.allows() }

// expired is the hook when its time is over.
func (h Hook) expired(why string) Hook {
	said := h.Message
	h.State, h.Again, h.Message = Timeout, nil, why
	if said != "" {
		h.Message += ": " + said
	}
	return h
}

// Asked finds the hooks that want to be asked about an operation, among the documents of a
// cluster's hooks and of the fleet's: the cluster's own first. Documents that can't be used and
// may want it are named: nobody knows what they would say.
func Asked(l keys.Layout, docs []kv.KV, operation string) (ask []*desired.Hook, unusable []Hook) {
	for _, e := range docs {
		h, problems := desired.ReadHook(l, e)
		switch {
		case h != nil && h.Enabled && slices.Contains(h.Before, operation):
			ask = append(ask, h)
		case h == nil && len(problems) > 0 && strings.Contains(string(e.Value), "before"):
			ref, _ := l.Parse(e.Key) // it was understood when the problems were found
			_, name := ref.Document()
			unusable = append(unusable, Hook{Name: name, Fleet: ref.Family == keys.Hooks, State: Asking, OnTimeout: "refuse"})
		}
	}
	slices.SortStableFunc(ask, func(a, b *desired.Hook) int {
		return cmp.Or(strings.Compare(fleetLast(l, a), fleetLast(l, b)), strings.Compare(a.Name, b.Name))
	})
	return ask, unusable
}

func fleetLast(l keys.Layout, h *desired.Hook) string {
	if h.Fleetwide(l) {
		return "fleet"
	}
	return "cluster"
}

// New is a question to hooks; who asks fills in what is asked.
func New(l keys.Layout, v Verdict, ask []*desired.Hook, now time.Time) Verdict {
	now = now.UTC()
	v.Schema, v.State, v.Asked, v.Deadline = Schema, Asking, now, now
	v.ID = v.Operation + "-" + strconv.FormatInt(now.UnixMilli(), 36)
	for _, h := range ask {
		within := time.Duration(h.Deadline)
		v.Hooks = append(v.Hooks, Hook{
			Name: h.Name, Fleet: h.Fleetwide(l), WithinMS: within.Milliseconds(), OnTimeout: h.OnTimeout, Deadline: now.Add(within), State: Asking,
		})
		if at := now.Add(within); at.After(v.Deadline) {
			v.Deadline = at
		}
	}
	return v
}

// Judge is the verdict with what the hooks say by now: refused as soon as one refuses, allowed
// when all have allowed it. A final verdict stays as it is.
func Judge(v Verdict, said []Hook, now time.Time) Verdict {
	if v.State.Final() {
		return v
	}
	v.Hooks = slices.Clone(said)
	done := true
	for i, h := range v.Hooks {
		if !h.State.Final() && !now.Before(h.Deadline) {
			h = h.expired("no answer within " + h.Within().String())
			v.Hooks[i] = h
		}
		done = done && h.State.Final()
	}
	switch h, refused := v.Decisive(); {
	case refused:
		v.State, v.DecidedBy = Refused, "hook "+h.String()
	case done:
		v.State, v.DecidedBy = Allowed, "all hooks"
	}
	return v
}

// Overdue is the verdict when nobody asks the hooks (any more): what they have not said, their
// on_timeout says.
func Overdue(v Verdict, why string, now time.Time) Verdict {
	said := slices.Clone(v.Hooks)
	for i, h := range said {
		if !h.State.Final() {
			said[i] = h.expired(why)
		}
	}
	return Judge(v, said, now)
}

// Decisive is the hook that refuses.
func (v Verdict) Decisive() (Hook, bool) {
	i := slices.IndexFunc(v.Hooks, Hook.refuses)
	if i < 0 {
		return Hook{}, false
	}
	return v.Hooks[i], true
}

// overridden begins DecidedBy when somebody goes on without asking.
const overridden = "override by "

// Override is the verdict when somebody does not want to ask.
func Override(v Verdict, by string) Verdict {
	v.State, v.DecidedBy = Allowed, overridden+by
	return v
}

// Overridden reports that nobody was asked, because somebody did not want to.
func (v Verdict) Overridden() bool { return strings.HasPrefix(v.DecidedBy, overridden) }

// What is what was asked about, in words.
func (v Verdict) What() string {
	if v.Subject == "" || v.Subject == v.Cluster {
		return v.Operation + " of " + v.Cluster
	}
	return fmt.Sprintf("%s of %s (%s)", v.Operation, v.Subject, v.Cluster)
}

// Words say how it ended.
func (v Verdict) Words() string {
	h, refused := v.Decisive()
	switch {
	case v.State == Refused && refused && h.State == Timeout:
		return fmt.Sprintf("hook %s gave no answer to %s (%s), and on_timeout says that this means no", h, v.What(), h.Message)
	case v.State == Refused && refused:
		return strings.TrimSuffix(fmt.Sprintf("hook %s refuses %s: %s", h, v.What(), h.Message), ": ")
	case v.Overridden():
		names := make([]string, len(v.Hooks))
		for i, h := range v.Hooks {
			names[i] = h.String()
		}
		return fmt.Sprintf("%s goes on without asking %s", v.What(), strings.Join(names, ", "))
	}
	return fmt.Sprintf("%s is %s", v.What(), v.State)
}

// Kept is how long a record stays after its deadline, so that people can look at it.
const Kept = time.Hour

// Outlived reports that nobody needs the record any more.
func (v Verdict) Outlived(now time.Time) bool { return now.After(v.Deadline.Add(Kept)) }

// abandoned is how long after its deadline nobody waits for a question any more, whatever the
// clocks of two hosts differ by: its asker was killed while no server ran.
const abandoned = 5 * time.Minute

// Abandoned reports that there is nobody left whom an answer would reach.
func (v Verdict) Abandoned(now time.Time) bool { return now.After(v.Deadline.Add(abandoned)) }
