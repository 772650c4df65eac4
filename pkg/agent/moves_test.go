package agent_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// moves is a node's record, and how often it was written.
func (w *world) moves(i int) (observed.Moves, int) {
	w.t.Helper()
	r, err := w.etcd.Connect("reader").KV.Get(w.t.Context(), layout.MovesKey(node(i), "c"))
	if err != nil {
		w.t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return observed.Moves{}, 0
	}
	m, err := observed.Decode[observed.Moves](kvOf(r.Kvs[0].Value))
	if err != nil {
		w.t.Fatal(err)
	}
	for n, mv := range m.Moves {
		if n > 0 && (mv.Seq != m.Moves[n-1].Seq+1 || mv.At.Before(m.Moves[n-1].At)) {
			w.t.Errorf("%s: move %d of %s comes after %d of %s", node(i), mv.Seq, mv.At, m.Moves[n-1].Seq, m.Moves[n-1].At)
		}
		if !mv.At.Equal(mv.At.Truncate(time.Millisecond)) || mv.At.Location() != time.UTC {
			w.t.Errorf("%s: time stamp %s", node(i), mv.At)
		}
	}
	return m, int(r.Kvs[0].Version)
}

// since is what a node's record has beside what it had after its first seconds.
func (w *world) since(i int, begun map[int]begun) ([]observed.Move, int) {
	w.t.Helper()
	m, writes := w.moves(i)
	return m.Moves[begun[i].moves:], writes - begun[i].writes
}

// begun is how much of a record there was, and how often it was written.
type begun struct{ moves, writes int }

// begin brings up three agents, and waits until nothing moves any more.
func begin(t *testing.T, w *world) map[int]begun {
	t.Helper()
	settle(t, w)
	after(20 * time.Second)
	for i := 1; i <= 3; i++ {
		if m, writes := w.moves(i); writes > 1 {
			t.Errorf("%s wrote %d times: %s", node(i), writes, told(m.Moves))
		}
	}
	return w.begun()
}

func (w *world) begun() map[int]begun {
	out := map[int]begun{}
	for i := range 10 {
		m, writes := w.moves(i)
		out[i] = begun{len(m.Moves), writes}
	}
	return out
}

// told renders moves without time, sequence and epoch.
func told(ms []observed.Move) string {
	var out []string
	for _, m := range ms {
		out = append(out, strings.Join(strings.Fields(fmt.Sprintf("%s %s %s>%s", m.What, m.Name, m.From, m.To)), " "))
	}
	return strings.Join(out, ", ")
}

// failover has m2 lead in place of m1, and returns when each part was.
func failover(w *world) (epoch int64, lost, led, writes time.Time) {
	w.agents["pg1"].host.SetPostgres(agent.PostgresState{})
	after(100 * time.Millisecond)
	lost = time.Now()
	w.etcd.Delete(layout.Leader("c"))
	after(300 * time.Millisecond)
	led = time.Now()
	epoch = w.leader(2)
	after(200 * time.Millisecond)
	writes = time.Now()
	w.agents["pg2"].host.SetPostgres(writable(2))
	after(20 * time.Millisecond)
	return epoch, lost, led, writes
}

// TestMovesOfAFailover: each node tells its part, by its own clock, in one write after
// it is over.
func TestMovesOfAFailover(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		before := begin(t, w)
		epoch, lost, led, writes := failover(w)
		after(700 * time.Millisecond)
		for i := 1; i <= 3; i++ {
			_, writes := w.since(i, before)
			expect(t, "within the second after the move", writes, 0)
		}
		after(2 * time.Second)
		seen := "leader-lost m1>, leader m1>m2, "
		own := "writable >m2, "
		rest := "confirmed >m2, route primary m1>m2, route replica m2,m3>m1,m3"
		at := map[observed.MoveKind]time.Time{observed.MoveLost: lost, observed.MoveLeader: led, observed.MoveWritable: writes, observed.MoveConfirmed: writes}
		for i := 1; i <= 3; i++ {
			m, _ := w.moves(i)
			moves, times := w.since(i, before)
			expect(t, "writes", times, 1)
			expect(t, "whose", m.Node+" "+m.UID+" "+m.Store, node(i)+" U1 S1")
			want := strings.Replace(seen+rest, "route primary m1>m2, route replica m2,m3>m1,m3", "", 1)
			if i == 2 {
				want = seen + own + strings.Split(rest, "route")[0]
			}
			if got := told(moves); !strings.Contains(got, "route primary m1>m2") || !strings.Contains(got, "route replica") {
				t.Errorf("%s: no routes in %s", node(i), got)
			}
			var unrouted []observed.Move
			for _, mv := range moves {
				if mv.What != observed.MoveRoute {
					unrouted = append(unrouted, mv)
				}
				if when, ok := at[mv.What]; ok && (mv.At.Before(when) || mv.At.Sub(when) > 15*time.Millisecond) {
					t.Errorf("%s: %s at %s, it was at %s", node(i), mv.What, mv.At, when)
				}
				if before := mv.What == observed.MoveLost || mv.At.Before(led); before != (mv.Epoch < epoch) || mv.Epoch == 0 {
					t.Errorf("%s: %s has epoch %d, the new leader %d", node(i), mv.What, mv.Epoch, epoch)
				}
			}
			expect(t, node(i), told(unrouted), strings.TrimSuffix(want, ", "))
		}
		after(time.Minute)
		for i := 1; i <= 3; i++ {
			_, times := w.since(i, before)
			expect(t, "writes a minute later", times, 1)
		}
	})
}

// TestMovesAfterARestart: what an agent finds when it starts is no move, unless it was
// away while something moved; it goes on counting.
func TestMovesAfterARestart(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		begin(t, w)
		failover(w)
		after(10 * time.Second)
		a2, a3 := w.agents["pg2"], w.agents["pg3"]
		w.etcd.Delete(layout.MovesKey("pg1", "c")) // as on the first start of an agent that keeps one
		before := w.begun()
		for i := 1; i <= 3; i++ {
			a := w.agents[node(i)]
			a.stop()
			w.startOn(i, a.dir, a.host)
		}
		after(30 * time.Second)
		for i := 1; i <= 3; i++ {
			moves, writes := w.since(i, before)
			expect(t, "writes after a restart", writes, 0)
			expect(t, "moves after a restart", told(moves), "")
		}
		// A key re-stamped is another epoch, and nothing else.
		epoch := w.leader(2)
		after(10 * time.Second)
		moves, writes := w.since(2, before)
		expect(t, "writes", writes, 1)
		expect(t, "the same leader anew", told(moves), "leader m2>m2, writable >m2, confirmed >m2")
		expect(t, "its epoch", moves[2].Epoch, epoch)
		expect(t, "counted on", moves[0].Seq, int64(before[2].moves+1))

		// One that was away sees what is otherwise, when it sees it.
		m, _ := w.moves(3)
		n := len(m.Moves)
		w.agents["pg3"].stop()
		a2.host.SetPostgres(recovering())
		w.agents["pg1"].host.SetPostgres(writable(3))
		w.leader(1)
		after(10 * time.Second)
		w.startOn(3, a3.dir, a3.host)
		after(10 * time.Second)
		m, _ = w.moves(3)
		got := told(m.Moves[n:])
		for _, want := range []string{"leader m2>m1", "confirmed m2>m1", "route primary m2>m1"} {
			mentions(t, "what it missed", got, want)
		}
	})
}

// TestMovesWhileEtcdIsAway: they are written when it is back, with the time they were at.
func TestMovesWhileEtcdIsAway(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		before := begin(t, w)
		_, lost, led, _ := failover(w)
		w.etcd.Cut(node(3))
		after(time.Minute)
		_, writes := w.since(3, before)
		w.etcd.Heal(node(3))
		expect(t, "writes while it is away", writes, 0)
		after(15 * time.Second)
		moves, _ := w.since(3, before)
		if len(moves) < 4 {
			t.Fatalf("moves: %s", told(moves))
		}
		expect(t, "first", moves[0].What, observed.MoveLost)
		if d := moves[0].At.Sub(lost); d < 0 || d > 10*time.Millisecond {
			t.Errorf("lost at %s, it was at %s", moves[0].At, lost)
		}
		for _, mv := range moves {
			if mv.What == observed.MoveLeader && mv.At.Sub(led) > 10*time.Millisecond {
				t.Errorf("led at %s, it was at %s", mv.At, led)
			}
		}
		after(time.Minute)
		again, _ := w.since(3, before)
		expect(t, "no move is told twice", told(again), told(moves))
	})
}

// TestMovesOfAPoolerThatFlaps: what happens all the time is told now and then.
func TestMovesOfAPoolerThatFlaps(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		as := pooling(t, w)
		as[2].host.Pooler().Set("")
		after(20 * time.Second)
		before := w.begun()
		m, _ := w.moves(3)
		expect(t, "found up", strings.Contains(told(m.Moves), "pooler"), false)
		for i := range 300 {
			as[2].host.Pooler().Set([]string{"its process ended", ""}[i%2])
			after(900 * time.Millisecond)
		}
		after(10 * time.Second)
		_, writes := w.since(3, before)
		m, _ = w.moves(3)
		if writes < 2 || writes > 60 {
			t.Errorf("%d writes in 270 s", writes)
		}
		expect(t, "kept", len(m.Moves), observed.MaxMoves)
		flaps := 0
		for _, mv := range m.Moves {
			if mv.What == observed.MovePooler {
				flaps++
			}
		}
		if flaps < 20 {
			t.Errorf("%d of %d are of the pooler", flaps, len(m.Moves))
		}
	})
}

// TestMovesOfAnAddress: who had it says so, and who has it.
func TestMovesOfAnAddress(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		after(10 * time.Second)
		begun := w.begun()
		w.move(1, 2)
		w.host(2).host.SetPostgres(writable(2))
		after(10 * time.Second)
		w.expectHolder(2)
		for i, want := range map[int]string{1: "vip-removed 10.0.0.99/24 >", 2: "vip-added 10.0.0.99/24 >"} {
			moves, writes := w.since(i, begun)
			mentions(t, node(i), told(moves), want)
			if writes > 2 {
				t.Errorf("%s wrote %d times: %s", node(i), writes, told(moves))
			}
		}
		m, before := w.moves(2)
		w.host(2).stop()
		w.startOn(2, w.host(2).dir, w.host(2).host)
		after(20 * time.Second)
		again, writes := w.moves(2)
		expect(t, "writes after a restart", writes, before)
		expect(t, "moves after a restart", told(again.Moves), told(m.Moves))
	})
}

// TestMovesOfNames: an infra node tells when its dnsmasq had the new primary.
func TestMovesOfNames(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, infra := named(t, w)
		after(5 * time.Second)
		_, writes := w.moves(9)
		expect(t, "writes before", writes, 0)
		epoch, _, _, _ := failover(w)
		after(5 * time.Second)
		m, writes := w.moves(9)
		expect(t, "writes", writes, 1)
		expect(t, "an infra node", told(m.Moves), "leader-lost m1>, leader m1>m2, confirmed >m2, dns c m1>m2")
		expect(t, "epoch", m.Moves[3].Epoch, epoch)
		infra.stop()
		w.startOn(9, infra.dir, infra.host)
		after(10 * time.Second)
		_, writes = w.moves(9)
		expect(t, "writes after a restart", writes, 1)
	})
}

// TestMovesOfAnotherClusterOrStore: their epochs and counts are of another time.
func TestMovesOfAnotherClusterOrStore(t *testing.T) {
	for name, whose := range map[string]observed.Moves{
		"cluster": {Node: "pg3", UID: "U0", Store: "S1"}, "store": {Node: "pg3", UID: "U1", Store: "S0"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				whose.Moves = []observed.Move{{Seq: 70, What: observed.MoveLeader, To: "m9", Epoch: 4}}
				w.etcd.Put(layout.MovesKey("pg3", "c"), string(observed.Encode(whose)))
				settle(t, w)
				after(10 * time.Second)
				m, _ := w.moves(3)
				expect(t, "whose", m.UID+m.Store, "U1S1")
				expect(t, "counted anew", m.Moves[0].Seq, int64(1))
				expect(t, "what moved", strings.Contains(told(m.Moves), "m9"), false)
			})
		})
	}
}

// TestMovesAreRemoved: with the last of the cluster on the node its record goes.
func TestMovesAreRemoved(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		settle(t, w)
		failover(w)
		after(10 * time.Second)
		if m, _ := w.moves(3); len(m.Moves) == 0 {
			t.Fatal("no moves")
		}
		removal(w, 3, false)
		after(3 * time.Second)
		w.etcd.Delete(layout.PlanKey("pg3", "c", "haproxy"))
		after(5 * time.Second)
		if _, _, there := w.etcd.Get(layout.MovesKey("pg3", "c")); !there {
			t.Error("it went with a part of the cluster")
		}
		w.etcd.Delete(layout.PlanKey("pg3", "c", "postgres"))
		after(10 * time.Second)
		if _, _, there := w.etcd.Get(layout.MovesKey("pg3", "c")); there {
			t.Error("it is left")
		}
	})
}

// TestMovesClaimNoEpochOfAnotherStore: what a restored etcd says of leaders is nobody's
// move.
func TestMovesClaimNoEpochOfAnotherStore(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		before := begin(t, w)
		w.etcd.Put(layout.StoreKey(), `{"incarnation":"S2"}`)
		after(time.Second)
		failover(w)
		after(20 * time.Second)
		for i := 1; i <= 3; i++ {
			moves, writes := w.since(i, before)
			expect(t, node(i), told(moves), "")
			expect(t, "writes", writes, 0)
		}
		w.etcd.Put(layout.StoreKey(), `{"incarnation":"S2","replaces":["S1"]}`)
		after(5 * time.Second)
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "haproxy"), strings.Replace(string(plan.Encode(haproxyPlan(i))), `"S1"`, `"S2"`, 1))
		}
		after(10 * time.Second)
		epoch := w.leader(3)
		w.agents["pg2"].host.SetPostgres(recovering())
		w.agents["pg3"].host.SetPostgres(writable(3))
		after(10 * time.Second)
		m, _ := w.moves(2)
		expect(t, "the accepted store's", m.Store, "S2")
		t.Log(told(m.Moves))
		expect(t, "counted anew", m.Moves[0].Seq, int64(1))
		for _, mv := range m.Moves {
			if mv.What == observed.MoveLeader {
				expect(t, "led", mv.To, "m3")
				expect(t, "its epoch", mv.Epoch, epoch)
			}
		}
		mentions(t, "moves", told(m.Moves), "leader m2>m3", "confirmed >m3")
	})
}
