package simulation

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// audit reads everything that is written to etcd, in etcd's own order.
type audit struct {
	w     *World
	parts model.Parts
	inbox []*clientv3.Event // the watching goroutine fills it, with mu held

	leader   string
	leaderAt time.Time
	primary  observed.Primary
	// confirmed is when the present record was written.
	confirmed time.Time
	// units is, for each node and unit, every content a plan had and when; primaries
	// are the members confirmed, each with the record's revision.
	units     map[string][]revised
	primaries []revised
	planRev   map[string]int64
	ready     bool
	status    string
	lastWrite time.Time // under /pgctrl
	lastKey   string
	byHand    map[string]int // deletions that the world itself made
	writes    map[string]int
}

type revised struct {
	rev  int64
	what string
}

func (a *audit) open() {
	a.units, a.planRev, a.byHand, a.writes = map[string][]revised{}, map[string]int64{}, map[string]int{}, map[string]int{}
	a.parts = a.w.etcd.Connect("audit")
	ch := a.parts.Watcher.Watch(context.Background(), "/", clientv3.WithRev(1), clientv3.WithRange("0"))
	go func() {
		for resp := range ch {
			a.w.mu.Lock()
			a.inbox = append(a.inbox, resp.Events...)
			a.w.mu.Unlock()
		}
	}()
}

func (a *audit) close() { _ = a.parts.Watcher.Close() }

// take looks at what was written since the last call. The caller holds mu.
func (a *audit) take() {
	events := a.inbox
	a.inbox = nil
	for _, ev := range events {
		key := string(ev.Kv.Key)
		if strings.HasPrefix(key, layout.RootPrefix()) {
			a.lastWrite, a.lastKey = time.Now(), key
		}
		ref, err := layout.Parse(key)
		if err != nil {
			continue
		}
		a.writes[string(ref.Family)]++
		switch {
		case key == layout.Leader(cluster):
			a.leaderEvent(ev)
		case ref.Family == keys.Primary && ev.Type == clientv3.EventTypePut:
			a.primaryEvent(ev)
		case ref.Family == keys.Plan:
			a.planEvent(ref, ev)
		case ref.Family == keys.Status && ev.Type == clientv3.EventTypePut:
			a.statusEvent(ev)
		case ref.Family == keys.Election:
			who := "nobody"
			if ev.Type == clientv3.EventTypePut {
				who = string(ev.Kv.Value)
			}
			a.w.say("etcd", "election: %s", who)
		case ref.Family == keys.Alive && ev.Type == clientv3.EventTypeDelete:
			a.w.say("etcd", "presence of %s is gone", ref.Node)
		}
	}
}

func (a *audit) leaderEvent(ev *clientv3.Event) {
	who := ""
	if ev.Type == clientv3.EventTypePut {
		who = string(ev.Kv.Value)
	}
	if who == a.leader && who != "" {
		a.w.say("etcd", "leader key: %s again", who)
		return
	}
	a.w.say("etcd", "leader key: %s", orNobody(who))
	a.leader, a.leaderAt = who, time.Now()
	a.w.unsteady()
	for i, h := range a.w.hosts {
		if h.pat.state == patRunning && h.pat.etcdReachable() {
			h.pat.wake(wakeDelay + time.Duration(i)*time.Millisecond)
		}
	}
}

func orNobody(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}

func (a *audit) primaryEvent(ev *clientv3.Event) {
	p, err := observed.Decode[observed.Primary](kv.KV{Value: ev.Kv.Value})
	if err != nil {
		return
	}
	word := "confirmed"
	if !p.Writable {
		word = "withdrawn"
	}
	a.w.say("etcd", "primary %s %s by %s", p.Member, word, p.By)
	a.primary, a.confirmed = p, time.Now()
	if p.Writable {
		a.primaries = append(a.primaries, revised{ev.Kv.ModRevision, p.Member})
	}
	a.w.check.confirmedNow(p)
}

func (a *audit) planEvent(ref keys.Ref, ev *clientv3.Event) {
	key := string(ev.Kv.Key)
	if ev.Type == clientv3.EventTypeDelete {
		if a.byHand[key]--; a.byHand[key] < 0 {
			a.w.check.fail("R6", "%s was deleted, and not by hand", key)
		}
		return
	}
	a.w.say("etcd", "plan of %s for %s", ref.Concern, ref.Node)
	a.planRev[key] = ev.Kv.ModRevision
	p, err := plan.Decode(ev.Kv.Value)
	if err != nil {
		a.w.check.fail("plan", "%s can't be read: %v", key, err)
		return
	}
	for _, r := range p.Resources {
		if u, ok := r.(plan.Unit); ok {
			k := ref.Node + " " + u.Unit
			a.units[k] = append(a.units[k], revised{ev.Kv.ModRevision, plan.Hash(plan.Resources{u}, nil)})
		}
	}
}

func (a *audit) statusEvent(ev *clientv3.Event) {
	var s status.ClusterStatus
	if json.Unmarshal(ev.Kv.Value, &s) != nil {
		return
	}
	if text := statusText(s); text != a.status {
		a.w.say("etcd", "status: ready %v %s", s.Ready, text)
		a.status = text
	}
	a.ready = s.Ready
}

// explains finds the lowest revision from least on at which something was said.
func explains(history []revised, what string, least int64) (int64, bool) {
	for i, h := range history {
		// What was said holds until the next word, so the last one before least counts.
		if h.rev < least && (i+1 < len(history) && history[i+1].rev <= least) {
			continue
		}
		if h.what == what {
			return max(h.rev, least), true
		}
	}
	return 0, false
}

func (w *World) leaderKey() (member string, rev, lease int64) {
	r, err := w.audit.parts.KV.Get(context.Background(), layout.Leader(cluster))
	if err != nil || len(r.Kvs) == 0 {
		return "", 0, 0
	}
	return string(r.Kvs[0].Value), r.Kvs[0].ModRevision, r.Kvs[0].Lease
}

func (w *World) member(name string) *host {
	for _, h := range w.hosts {
		if h.member == name {
			return h
		}
	}
	return nil
}

// unsteady notes that the environment changed: nothing can be expected of those who
// follow it for a while.
func (w *World) unsteady() { w.steady = time.Now() }

// sawTxn looks at a transaction as a process asks for it (R7: fenced).
func (w *World) sawTxn(link string, cmps []clientv3.Cmp, ops []clientv3.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.servers {
		if s.name != link {
			continue
		}
		fenced := false
		for _, c := range cmps {
			fenced = fenced || string(c.KeyBytes()) == layout.ElectionKey() && c.GetCompare().GetCreateRevision() > 0
		}
		for _, op := range ops {
			key := string(op.KeyBytes())
			if !fenced && (op.IsPut() || op.IsDelete()) && key != layout.ElectionKey() && key != layout.StoreKey() {
				w.check.fail("R7", "%s writes %s without its election's guard", link, key)
			}
		}
	}
}

// statusText is what stands between the cluster and Ready.
func statusText(s status.ClusterStatus) string {
	var out []string
	for _, c := range s.Conditions {
		if c.Blocking() {
			out = append(out, strings.TrimSpace(c.Concern+" "+c.Node+" "+string(c.Reason)))
		}
	}
	return strings.Join(out, "; ")
}
