package simulation

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// How long the parts of a run take at most.
const (
	formWithin     = 90 * time.Second
	convergeWithin = 90 * time.Second
	quietFor       = 12 * time.Second
)

var serviceDoc = layout.ClusterDoc(cluster, "services/primary")

const invalid = "retries: banana\n"

// documents are what people asked for, by key.
func documents() map[string]string {
	out := map[string]string{}
	for i := 1; i <= nodes; i++ {
		out[layout.Node(fmt.Sprintf("pg%d", i))] = fmt.Sprintf("address: 10.0.0.%d\n", i)
		out[layout.ClusterDoc(cluster, fmt.Sprintf("members/%s-%d", cluster, i))] = fmt.Sprintf("node: pg%d\n", i)
	}
	out[layout.ClusterDoc(cluster, "vip")] = "address: 10.0.0.100/24\n"
	return out
}

// setUp makes etcd, hosts and servers, nothing of which runs yet.
func (w *World) setUp() profile {
	w.audit.open()
	p := profileOf(w.o.Profile, w.rng)
	w.etcd.Put(layout.StoreKey(), string(observed.Encode(observed.Store{
		Incarnation: incarnation, Newest: version.String(), Endpoints: []string{"http://10.0.0.9:2379"},
	})))
	docs := documents()
	for _, key := range slices.Sorted(maps.Keys(docs)) {
		w.etcd.Put(key, docs[key])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := 1; i <= nodes; i++ {
		h := newHost(w, i)
		h.pat.reckless = w.rng.IntN(2) == 0
		h.dir = w.dir(h.node)
		w.hosts = append(w.hosts, h)
		w.link(h.node, i)
	}
	for i := 1; i <= servers; i++ {
		s := &server{w: w, name: fmt.Sprintf("s%d", i)}
		w.servers = append(w.servers, s)
		w.link(s.name, nodes+i)
	}
	return p
}

// link gives a process its own way to etcd. No two have the same delay, so that what
// reaches all of them does not reach two at one instant: then Go's scheduler, and
// not the seed, would choose who is first.
func (w *World) link(name string, i int) {
	w.links[name] = &linkState{spread: time.Duration(w.rng.IntN(3)) * 10 * time.Millisecond}
	w.etcd.Delay(name, w.usualDelay(i))
}

func (w *World) usualDelay(i int) time.Duration {
	return 600*time.Microsecond + time.Duration(i)*170*time.Microsecond
}

// form starts everything and waits until the cluster is as asked for.
func (w *World) form() {
	w.mu.Lock()
	for i, s := range w.servers {
		w.after(time.Duration(i)*331*time.Millisecond, "start", s.start)
	}
	for i, h := range w.hosts {
		w.after(time.Duration(i)*137*time.Millisecond+50*time.Millisecond, "start", h.startAgent)
	}
	w.mu.Unlock()
	if why := w.converge(formWithin); why != "" {
		w.mu.Lock()
		w.check.fail("form", "the cluster did not form within %s: %s", formWithin, why)
		w.mu.Unlock()
	}
	w.run(2 * time.Second)
}

// converge drives until everything is as it should be, and says what is not when the
// time is over.
func (w *World) converge(within time.Duration) (why string) {
	for end := time.Now().Add(within); time.Now().Before(end); {
		w.run(250 * time.Millisecond)
		if why = w.asAsked(); why == "" {
			return ""
		}
	}
	return why
}

// asAsked says what is not as it should be, "" when everything is.
func (w *World) asAsked() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := &w.audit
	l := w.member(a.leader)
	switch {
	case l == nil:
		return "nobody leads"
	case l.pat.pg != pgPrimary:
		return fmt.Sprintf("%s leads and its PostgreSQL is %s", l.member, l.pat.pg)
	case a.primary.Member != a.leader || !a.primary.Writable || a.primary.Node != l.node:
		return fmt.Sprintf("%s leads, the record says %s, writable %v", a.leader, a.primary.Member, a.primary.Writable)
	case !a.ready && w.hasStatus():
		return "the status is not ready: " + w.statusSays()
	}
	for _, h := range w.hosts {
		if h.kernel.holds != (h == l) {
			return fmt.Sprintf("%s has the address: %v", h.node, h.kernel.holds)
		}
		if h != l && (h.pat.pg != pgRecovery || h.pat.streaming != l.member) {
			return fmt.Sprintf("%s is %s and streams from %q", h.member, h.pat.pg, h.pat.streaming)
		}
		for name, s := range h.proxy.servers {
			if want := (s.name == l.member) == s.primary; s.up != want && !strings.Contains(name, "offline") {
				return fmt.Sprintf("%s on %s: up %v", name, h.node, s.up)
			}
		}
		for _, concern := range []string{"postgres", "haproxy", "vip", "databases"} {
			rev, ok := a.planRev[layout.PlanKey(h.node, cluster, concern)]
			v, _, _ := w.etcd.Get(layout.ObservedKey(h.node, cluster, concern))
			r, err := decodeReport(v)
			if !ok || err != nil || !r.Done(rev) {
				return fmt.Sprintf("%s of %s is not done: %s", concern, h.node, v)
			}
		}
	}
	return ""
}

// statusSays is what stands between the cluster and Ready.
func (w *World) statusSays() string {
	v, _, _ := w.etcd.Get(layout.StatusKey(cluster))
	var s status.ClusterStatus
	if err := json.Unmarshal([]byte(v), &s); err != nil {
		return err.Error()
	}
	var out []string
	for _, c := range s.Conditions {
		if c.Blocking() {
			out = append(out, strings.TrimSpace(c.Concern+" "+c.Node+" "+c.Condition.String()))
		}
	}
	return strings.Join(out, "; ")
}

// storm lets the faults of the profile happen.
func (w *World) storm(p profile) {
	w.mu.Lock()
	w.say("world", "faults begin: %s", p.name)
	w.check.still = p.still
	if p.still {
		w.check.lasts("still", true)
	}
	for _, h := range w.hosts {
		h.oldDir = h.copyOfDisk()
	}
	w.schedule(p)
	w.mu.Unlock()
	w.run(p.length)
	w.mu.Lock()
	w.say("world", "faults end")
	w.mu.Unlock()
}

// calm ends what faults left, and wants everything in order and then quiet (R8).
func (w *World) calm() {
	docs := documents()
	w.mu.Lock()
	w.restore()
	for _, key := range slices.Sorted(maps.Keys(docs)) {
		if v, _, _ := w.etcd.Get(key); v != docs[key] {
			w.etcd.Put(key, docs[key])
		}
	}
	if v, _, _ := w.etcd.Get(serviceDoc); v == invalid {
		w.put(serviceDoc, "retries: 20\n")
	}
	w.mu.Unlock()
	began := time.Now()
	why := w.converge(convergeWithin)
	w.mu.Lock()
	w.check.stats.Converged = time.Since(began)
	if why != "" {
		w.check.fail("converge", "not in order %s after the last fault: %s", convergeWithin, why)
	}
	w.mu.Unlock()
	if why != "" {
		return
	}
	w.run(loopWait + 5*time.Second) // Patroni writes its member keys once more
	w.mu.Lock()
	quiet := time.Now()
	w.mu.Unlock()
	w.run(quietFor)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.audit.lastWrite.After(quiet) {
		w.check.fail("R8", "%s was written although nothing happened", w.audit.lastKey)
	}
}
