package twins_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/databases"
	"github.com/pgctrl/pgctrl/pkg/controllers/pgbouncer"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const cluster = "pg-test"

var all = []controllers.Controller{postgres.New(), databases.New(), pgbouncer.New()}

// roles is who may log in to a PostgreSQL: by role, the revision of the password and
// which making of it that was.
type roles map[string]made

type made struct {
	revision int64
	mark     int
}

// host is one node: its agent, its PostgreSQL and what its programs log in as.
type host struct {
	node, member string
	up, agent    bool // PostgreSQL and the programs; the agent
	replayed     int  // how much of the history its PostgreSQL has
	delayed      bool
	loaded       map[string]map[string]int64 // by concern: the passwords that are in force
}

// world is three hosts, three controllers and one history of what was written to the
// database: a failover cuts off what only the former primary had.
type world struct {
	t       *testing.T
	m       *kv.Map
	hosts   []*host
	leader  *host
	history []roles
	marks   int
	formed  bool // Patroni has made the first roles by then
	did     []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, m: controllertest.Load(t, "../postgres/testdata/small.txtar"), history: []roles{{}}}
	for i := 1; i <= 3; i++ {
		w.hosts = append(w.hosts, &host{
			node: fmt.Sprintf("pg%d", i), member: fmt.Sprintf("pg-test-%d", i), up: true, agent: true, loaded: map[string]map[string]int64{},
		})
	}
	w.leader = w.hosts[0]
	controllertest.Settle(t, postgres.New(), w.m, cluster)
	controllertest.Put(w.m, "/pg/pg-test/leader", w.leader.member)
	for _, h := range w.hosts {
		w.runs(h)
	}
	w.settle()
	w.formed = true
	return w
}

func (w *world) put(key, value string) {
	if e, ok := w.m.Get(key); !ok || string(e.Value) != value {
		controllertest.Put(w.m, key, value)
	}
}

// runs writes Patroni's key of a host that is up.
func (w *world) runs(h *host) {
	w.put("/pg/pg-test/members/"+h.member, `{"state":"running","role":"replica"}`)
}

// server lets one controller plan.
func (w *world) server(c controllers.Controller) bool {
	return controllertest.Apply(w.m, controllertest.Run(w.t, c, w.m, cluster))
}

func (w *world) plan(h *host, concern string) (plan.Plan, int64, bool) {
	e, ok := w.m.Get(keys.Default.PlanKey(h.node, cluster, concern))
	if !ok {
		return plan.Plan{}, 0, false
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		w.t.Fatal(err)
	}
	return p, e.ModRevision, true
}

// acts lets a host's agent bring one plan into force and report.
func (w *world) acts(h *host, concern string) {
	p, rev, ok := w.plan(h, concern)
	if !ok || !h.agent {
		return
	}
	for name, at := range p.Secrets {
		if e, ok := w.m.Get(keys.Default.Secret(cluster, name)); !ok || e.ModRevision < at {
			return // it waits for the secret
		}
	}
	r := observed.Report{Schema: 1, Concern: concern, UID: p.UID, Plan: rev, Loaded: plan.Hash(p.Resources, p.Secrets), Facts: map[string]string{},
		Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True}}}
	if concern != "databases" {
		if !h.up && concern == "pgbouncer" {
			return // nobody answers
		}
		h.loaded[concern] = maps.Clone(p.Secrets)
		w.put(keys.Default.ObservedKey(h.node, cluster, concern), string(observed.Encode(r)))
		return
	}
	sql, _ := plan.SQLOf(p)
	if h == w.leader && h.up {
		now := roles{}
		for _, role := range sql.Roles {
			if role.Login {
				now[role.Name] = w.history[h.replayed][role.Name]
				if at := p.Secrets[role.Password]; now[role.Name].revision != at {
					w.marks++
					now[role.Name] = made{at, w.marks}
				}
			}
		}
		if !maps.Equal(now, w.history[h.replayed]) {
			w.history = append(w.history, now)
			h.replayed++
		}
	}
	if !h.up {
		return
	}
	var said []string
	for _, role := range sql.Roles {
		at, open := w.history[h.replayed][role.Name]
		switch {
		case role.Login && open && at.revision == p.Secrets[role.Password]:
			said = append(said, observed.LoginSettled(observed.Login(role.Name, at.revision, fmt.Sprint(at.mark))))
		case !role.Login && !open:
			said = append(said, observed.LoginClosed(role.Name))
		}
	}
	r.Facts[observed.FactLogins] = strings.Join(said, " ")
	w.put(keys.Default.ObservedKey(h.node, cluster, concern), string(observed.Encode(r)))
}

// replays lets a replica take one step of the history.
func (w *world) replays(h *host) {
	if h != w.leader && h.up && h.replayed < len(w.history)-1 {
		h.replayed++
	}
}

// failover makes another member lead, the one of those that run that has most.
func (w *world) failover() {
	var next *host
	for _, h := range w.hosts {
		if h != w.leader && h.up && !h.delayed && (next == nil || h.replayed > next.replayed) {
			next = h
		}
	}
	if next == nil {
		return
	}
	w.leader = next
	w.history = w.history[:next.replayed+1]
	for _, h := range w.hosts {
		h.replayed = min(h.replayed, next.replayed) // rewound
	}
	controllertest.Put(w.m, "/pg/pg-test/leader", next.member)
}

func (w *world) goes(h *host) {
	h.up, h.agent = false, false
	controllertest.Delete(w.m, keys.Default.AliveKey(h.node))
	controllertest.Delete(w.m, "/pg/pg-test/members/"+h.member)
	if h == w.leader {
		w.failover()
	}
}

func (w *world) agentGoes(h *host) {
	h.agent = false
	controllertest.Delete(w.m, keys.Default.AliveKey(h.node))
}

func (w *world) comes(h *host, alive string) {
	h.up, h.agent = true, true
	w.put(keys.Default.AliveKey(h.node), alive)
	w.runs(h)
}

// rotate does what `pgctrl secret rotate` does; false: one is under way.
func (w *world) rotate(p twins.Pair) bool {
	to, n := p[0].Secret, 0
	for _, r := range p {
		if _, ok := w.m.Get(keys.Default.Secret(cluster, r.Secret)); ok {
			n++
		} else {
			to = r.Secret
		}
	}
	if n > 1 {
		return false
	}
	controllertest.Put(w.m, keys.Default.Secret(cluster, to), "another")
	return true
}

// check is the promise: whatever logs in does so as a role that is let in where it logs
// in, with the password that it has.
func (w *world) check() {
	w.t.Helper()
	for _, h := range w.hosts {
		if !h.up || !w.formed {
			continue
		}
		for concern, pairs := range map[string][]twins.Pair{"pgbouncer": {twins.Pooler}, "postgres": {twins.Replicator, twins.Rewind}} {
			if h.loaded[concern] == nil {
				continue
			}
			for _, p := range pairs {
				use := p[0]
				for _, r := range p {
					if h.loaded[concern][r.Secret] > h.loaded[concern][use.Secret] {
						use = r // of two that PgBouncer knows it uses the later one
					}
				}
				at := h.loaded[concern][use.Secret]
				for _, where := range []*host{h, w.leader} {
					if (where == h || concern == "postgres" && w.leader.up) && w.history[where.replayed][use.Role].revision != at {
						w.t.Fatalf("%s on %s logs in to %s as %s@%d, which has %v\nafter: %s", concern, h.node, where.node, use.Role, at,
							w.history[where.replayed], strings.Join(w.did, ", "))
					}
				}
			}
		}
	}
}

// settle lets everybody do everything until nothing changes; delayed members replay
// nothing.
func (w *world) settle() {
	w.t.Helper()
	for range 200 {
		before := fmt.Sprint(w.m.At, len(w.history), w.hosts[0].replayed, w.hosts[1].replayed, w.hosts[2].replayed)
		for _, c := range all {
			w.server(c)
			w.check()
		}
		for _, h := range w.hosts {
			for _, concern := range []string{"postgres", "databases", "pgbouncer"} {
				w.acts(h, concern)
				w.check()
			}
			if !h.delayed {
				w.replays(h)
			}
			w.check()
		}
		if before == fmt.Sprint(w.m.At, len(w.history), w.hosts[0].replayed, w.hosts[1].replayed, w.hosts[2].replayed) {
			return
		}
	}
	w.t.Fatal("it never comes to rest")
}

// rests is what the conditions say of rotations once all is at rest.
func (w *world) rests() []observed.Condition {
	w.settle()
	r := controllertest.Run(w.t, databases.New(), w.m, cluster)
	return slices.DeleteFunc(r.Conditions, func(c observed.Condition) bool { return c.Reason != observed.Rotating })
}

// has are the names of the passwords that exist.
func (w *world) has() string {
	var out []string
	for _, e := range w.m.Range("/pgctrl/secrets/pg-test/") {
		out = append(out, strings.TrimPrefix(e.Key, "/pgctrl/secrets/pg-test/"))
	}
	return strings.Join(out, " ")
}

// random does one thing that may happen at any time.
func (w *world) random(r *rand.Rand, alive map[string]string) {
	h := w.hosts[r.IntN(len(w.hosts))]
	down := slices.ContainsFunc(w.hosts, func(h *host) bool { return !h.up })
	what := ""
	switch n := r.IntN(100); {
	case n < 35:
		c := all[r.IntN(len(all))]
		what = "server plans " + c.Name()
		w.server(c)
	case n < 70:
		concern := []string{"postgres", "databases", "pgbouncer"}[r.IntN(3)]
		what = h.node + " applies " + concern
		w.acts(h, concern)
	case n < 88:
		if h.delayed && r.IntN(5) > 0 {
			return
		}
		what = h.node + " replays"
		w.replays(h)
	case n < 91:
		if w.leader.up && !down {
			what = "failover"
			w.failover()
		}
	case n < 93:
		if !down {
			what = h.node + " goes down"
			w.goes(h)
		}
	case n < 94:
		what = "agent of " + h.node + " goes"
		w.agentGoes(h)
	case n < 97:
		what = h.node + " comes back"
		w.comes(h, alive[h.node])
	default:
		p := twins.All[r.IntN(len(twins.All))]
		if w.rotate(p) {
			what = "rotate " + p.Name()
		}
	}
	if what != "" {
		w.did = append(w.did, what)
	}
}
