package twins_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/databases"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

const first = "monitor patroni pooler postgres replicator rewind"

// TestTakingTurns: all four, there and back again; afterwards one role of each pair has
// a password and the other one lets nobody in, on every member.
func TestTakingTurns(t *testing.T) {
	w := newWorld(t)
	if got := w.has(); got != first {
		t.Fatalf("a cluster forms with %s", got)
	}
	for i, want := range []string{"monitor_b patroni pooler_b postgres replicator_b rewind_b", first} {
		for _, p := range twins.All {
			if !w.rotate(p) {
				t.Fatal("it can't begin")
			}
		}
		if left := w.rests(); len(left) > 0 {
			t.Fatalf("conditions %v", left)
		}
		if got := w.has(); got != want {
			t.Errorf("passwords %s, want %s", got, want)
		}
		for _, h := range w.hosts {
			open := w.history[h.replayed]
			for _, p := range twins.All {
				if in, out := p[1-i].Role, p[i].Role; open[in].revision == 0 || open[out].revision != 0 {
					t.Errorf("%s lets in %v", h.node, open)
				}
			}
		}
	}
	// Where there is one of a pair, the other is not made again, by no controller.
	w.rotate(twins.Replicator)
	w.rests()
	if got := w.has(); !strings.Contains(got, "replicator_b") || strings.Contains(got, "replicator ") {
		t.Errorf("passwords %s", got)
	}
}

// TestPoolerKnowsBothForAWhile: a lookup that is just connecting as the former role is
// not let down by the reload; once the new one is in force PgBouncer knows it alone.
func TestPoolerKnowsBothForAWhile(t *testing.T) {
	w := newWorld(t)
	w.rotate(twins.Pooler)
	seen := map[string]bool{}
	for range 40 {
		for _, c := range all {
			w.server(c)
		}
		for _, h := range w.hosts {
			p, _, _ := w.plan(h, "pgbouncer")
			_, former := p.Secrets["pooler"]
			_, now := p.Secrets["pooler_b"]
			seen[fmt.Sprint(former, now)] = true
			for _, concern := range []string{"postgres", "databases", "pgbouncer"} {
				w.acts(h, concern)
				w.check()
			}
			w.replays(h)
		}
	}
	for _, state := range []string{"true false", "true true", "false true"} {
		if !seen[state] {
			t.Errorf("no plan with former and new password %s; there were %v", state, seen)
		}
	}
}

// TestPoolerKnowsBothWhileItWaits: a client whose lookup waits for a PostgreSQL that is
// being restarted is served as the role that it began with.
func TestPoolerKnowsBothWhileItWaits(t *testing.T) {
	w := newWorld(t)
	w.rotate(twins.Pooler)
	pg2 := func() map[string]int64 { p, _, _ := w.plan(w.hosts[1], "pgbouncer"); return p.Secrets }
	for n := 0; pg2()["pooler_b"] == 0; n++ {
		for _, c := range all {
			w.server(c)
		}
		for _, h := range w.hosts {
			if pg2()["pooler_b"] == 0 {
				w.acts(h, "databases")
				w.acts(h, "pgbouncer")
				w.replays(h)
			}
		}
		if n > 50 {
			t.Fatal("it never moves")
		}
	}
	w.put("/pg/pg-test/members/pg-test-2", `{"state":"starting","role":"replica"}`)
	if left := w.rests(); pg2()["pooler"] == 0 || len(left) != 1 || !strings.Contains(left[0].Message, "pg2 (pgbouncer uses it)") {
		t.Errorf("while it starts: %v, %v", pg2(), left)
	}
	w.runs(w.hosts[1])
	if left := w.rests(); pg2()["pooler"] != 0 || len(left) > 0 {
		t.Errorf("when it runs: %v, %v", pg2(), left)
	}
}

// TestDelayedMember: it goes on with the role that its PostgreSQL has, which stays open
// for it and is closed once it has replayed the other.
func TestDelayedMember(t *testing.T) {
	w := newWorld(t)
	late := w.hosts[2]
	late.delayed = true
	controllertest.Put(w.m, "/pgctrl/desired/clusters/pg-test/members/pg-test-3", "{node: pg3, delay: 2h}")
	w.settle()
	for _, p := range twins.All {
		w.rotate(p)
	}
	left := w.rests()
	if len(left) != len(twins.All) {
		t.Fatalf("conditions %v", left)
	}
	for _, c := range left {
		if c.Bad() || !strings.Contains(c.Message, "stays open for pg3 (pg-test-3 replays") || strings.Contains(c.Message, "pg2") ||
			c.Next != "pgctrl unset pg-test members/pg-test-3 delay (or wait)" {
			t.Errorf("it says %+v", c)
		}
	}
	for i, want := range []string{"pooler_b", "pooler_b", "pooler"} {
		if p, _, _ := w.plan(w.hosts[i], "pgbouncer"); p.Secrets[want] == 0 || p.Secrets["pooler"]*p.Secrets["pooler_b"] != 0 {
			t.Errorf("pg%d's pooler logs in with %v, want %s", i+1, p.Secrets, want)
		}
	}
	for late.replayed < len(w.history)-1 {
		w.replays(late)
		w.rests()
	}
	if left := w.rests(); len(left) > 0 || strings.Contains(w.has(), "pooler ") {
		t.Errorf("after it replayed: %v, passwords %s", left, w.has())
	}
}

// TestMemberDown: the others move, the former role stays open for the one that is down,
// which works when it comes back, and then it is closed.
func TestMemberDown(t *testing.T) {
	w := newWorld(t)
	alive, _ := w.m.Get(keys.Default.AliveKey("pg3"))
	w.goes(w.hosts[2])
	for _, p := range twins.All {
		w.rotate(p)
	}
	left := w.rests()
	if len(left) != len(twins.All) || !strings.Contains(left[0].Message, "stays open for pg3 (") || left[0].Next != "systemctl start pgagent (on pg3)" {
		t.Fatalf("conditions %v", left)
	}
	for _, h := range w.hosts[:2] {
		if p, _, _ := w.plan(h, "postgres"); p.Secrets["replicator_b"] == 0 || p.Secrets["replicator"] != 0 {
			t.Errorf("%s has %v", h.node, p.Secrets)
		}
	}
	w.comes(w.hosts[2], string(alive.Value))
	if left := w.rests(); len(left) > 0 {
		t.Errorf("after it came back: %v", left)
	}
}

// TestNobodyMovesBeforeTheNextPrimaryHasIt: what only the primary has is lost with it.
func TestNobodyMovesBeforeTheNextPrimaryHasIt(t *testing.T) {
	w := newWorld(t)
	w.rotate(twins.Pooler)
	for range 10 {
		for _, c := range all {
			w.server(c)
		}
		for _, h := range w.hosts {
			for _, concern := range []string{"postgres", "databases", "pgbouncer"} {
				w.acts(h, concern)
			}
		}
		w.replays(w.hosts[1]) // and never the third
	}
	for _, h := range w.hosts {
		if p, _, _ := w.plan(h, "pgbouncer"); p.Secrets["pooler_b"] != 0 {
			t.Errorf("%s moved", h.node)
		}
	}
	c := controllertest.Run(t, databases.New(), w.m, cluster).Conditions
	if len(c) != 1 || !strings.Contains(c[0].Message, "pg3 (pg-test-3 does not have pgctrl_pooler_b yet") {
		t.Errorf("conditions %v", c)
	}
	w.failover()
	if left := w.rests(); len(left) > 0 {
		t.Errorf("after a failover: %v", left)
	}
}

// TestStaleWord: what a former primary had is gone once it was rewound, even if the new
// one has given the very password again; its agent's word from before counts for nothing.
func TestStaleWord(t *testing.T) {
	w := newWorld(t)
	w.rotate(twins.Pooler)
	w.server(databases.New())
	w.acts(w.hosts[0], "databases") // and nobody has replayed it
	w.failover()
	w.acts(w.leader, "databases")
	w.acts(w.hosts[2], "databases")
	for range 10 {
		for _, c := range all {
			w.server(c)
		}
		w.acts(w.leader, "pgbouncer")
		w.replays(w.hosts[2])
		w.acts(w.hosts[2], "databases")
		w.acts(w.hosts[2], "pgbouncer")
	}
	for _, h := range w.hosts {
		if p, _, _ := w.plan(h, "pgbouncer"); p.Secrets["pooler_b"] != 0 {
			t.Errorf("%s moved", h.node)
		}
	}
	if left := w.rests(); len(left) > 0 {
		t.Errorf("in the end: %v", left)
	}
}

// TestRemovedWithTheCluster: no password of a twin is left behind.
func TestRemovedWithTheCluster(t *testing.T) {
	w := newWorld(t)
	w.rotate(twins.Rewind)
	w.settle()
	w.rotate(twins.Replicator) // under way
	r := controllertest.Run(t, postgres.New(), w.m, cluster)
	outputs := 0
	for _, o := range r.Outputs {
		if strings.HasPrefix(o.Key, "/pgctrl/secrets/") {
			outputs++
		}
	}
	if outputs != 4 {
		t.Errorf("%d passwords are looked after", outputs)
	}
}

// TestAnyOrder: servers, agents, replay, failovers, deaths and rotations in any order;
// nothing ever logs in as a role that is not let in, and in the end all is closed.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), rand.New(rand.NewPCG(seed, 1))
			alive := map[string]string{}
			for _, h := range w.hosts {
				e, _ := w.m.Get(keys.Default.AliveKey(h.node))
				alive[h.node] = string(e.Value)
			}
			if w.hosts[2].delayed = seed%3 == 0; w.hosts[2].delayed {
				controllertest.Put(w.m, "/pgctrl/desired/clusters/pg-test/members/pg-test-3", "{node: pg3, delay: 2h}")
				w.settle()
			}
			for range 200 {
				w.random(r, alive)
				w.check()
			}
			for _, h := range w.hosts {
				w.comes(h, alive[h.node])
			}
			w.did = append(w.did, "rest")
			for w.settle(); w.hosts[2].replayed < len(w.history)-1; w.settle() {
				w.replays(w.hosts[2])
			}
			if left := w.rests(); len(left) > 0 {
				t.Errorf("in the end: %v\nafter: %s", left, strings.Join(w.did, ", "))
			}
		})
	}
}

// TestNobodyElseHasTheNames: documents can't describe a role of a pair, or a rotation
// would take a person's role for the twin.
func TestNobodyElseHasTheNames(t *testing.T) {
	for _, p := range twins.All {
		for _, r := range p {
			if !slices.Contains(desired.SystemRoles, r.Role) {
				t.Errorf("a document may describe %s", r.Role)
			}
		}
	}
}
