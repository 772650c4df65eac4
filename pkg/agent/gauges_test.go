package agent_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// series is what a scrape of the agent shows of a metric: "labels" -> value.
func (r *running) series(t *testing.T, name string) map[string]float64 {
	t.Helper()
	all, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			out[strings.Join(labels, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

// shows fails unless a scrape has exactly this one series of the metric with the value.
func (r *running) shows(t *testing.T, name, labels string, value float64) {
	t.Helper()
	got := r.series(t, name)
	if v, ok := got[labels]; !ok || v != value || len(got) != 1 {
		t.Fatalf("%s: got %v, want only {%s} %v", name, got, labels, value)
	}
}

// epoch is the mod revision of the leader key.
func (w *world) epoch() int64 {
	_, rev, _ := w.etcd.Get(layout.Leader("c"))
	return rev
}

// TestScrapeSaysWhatHolds: what alerts are made of follows what happens, and what is
// over leaves no series behind.
func TestScrapeSaysWhatHolds(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.etcd.Put(layout.PlanKey("pg2", "c", "postgres"), string(plan.Encode(postgresPlan(2, 1))))
		w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		a1, a2, a3 := settle(t, w)
		a2.host.SetRooms(agent.Room{Folder: "data", Free: 5, Size: 20}, agent.Room{Folder: "wal", Free: 7, Size: 9, Inodes: 3, Most: 4})
		after(5 * time.Second)
		a1.shows(t, "pgagent_primary_confirmed", "cluster=c", 1)
		a1.shows(t, "pgagent_leader_epoch", "cluster=c leader=m1", float64(w.epoch()))
		a1.shows(t, "pgagent_postgres_writable", "cluster=c member=m1", 1)
		a1.shows(t, "pgagent_postgres_up", "cluster=c member=m1", 1)
		a1.shows(t, "pgagent_announced", "", 1)
		a1.shows(t, "pgagent_time_seconds", "", float64(time.Now().UnixNano())/1e9)
		a3.shows(t, "pgagent_route_moves_total", "cluster=c", 2)
		a3.shows(t, "pgagent_confirm_seconds", "cluster=c", 0) // there before there is anything to count
		a1.shows(t, "pgagent_repairs_total", "cluster=c concern=haproxy", 0)
		a1.shows(t, "pgagent_plan_unapplied_seconds", "cluster=c concern=haproxy", 0)
		a2.shows(t, "pgagent_postgres_writable", "cluster=c member=m2", 0)
		a2.shows(t, "pgagent_replica_streaming", "cluster=c member=m2", 0)
		if got := a1.series(t, "pgagent_replica_streaming"); len(got) != 0 {
			t.Fatalf("a primary streams: %v", got)
		}
		a2.shows(t, "pgagent_disk_free_inodes", "cluster=c folder=wal member=m2", 3)
		if got := a2.series(t, "pgagent_disk_free_bytes"); got["cluster=c folder=data member=m2"] != 5 || got["cluster=c folder=wal member=m2"] != 7 {
			t.Fatalf("room: %v", got)
		}

		// A replica that streams, a unit that only people start, a repair.
		a2.host.SetPostgres(streaming())
		a2.host.Fail("unit patroni@c.service", &plan.Refusal{Reason: observed.Stopped, Message: "patroni@c is stopped"})
		a2.host.DriftNow("patroni@c.service")
		a2.host.DriftNow("haproxy@c.service")
		after(time.Second)
		a2.shows(t, "pgagent_replica_streaming", "cluster=c member=m2", 1)
		if got := a2.series(t, "pgagent_condition"); got["cluster=c concern=postgres reason=Stopped status=False type=Applied"] != 1 {
			t.Fatalf("conditions: %v", got)
		}
		if got := a2.series(t, "pgagent_repairs_total"); got["cluster=c concern=haproxy"] != 1 || got["cluster=c concern=postgres"] != 0 {
			t.Fatalf("repairs: %v", got)
		}
		a2.host.Fail("unit patroni@c.service", nil)
		after(2 * agent.RetryCap) // which is before jitter
		if got := a2.series(t, "pgagent_condition"); got["cluster=c concern=postgres reason=Stopped status=False type=Applied"] != 0 {
			t.Fatalf("conditions stay: %v", got)
		}

		// Another leads; nothing of the first one's leadership is left.
		a1.host.SetPostgres(recovering())
		w.leader(2)
		after(500 * time.Millisecond)
		a1.shows(t, "pgagent_leader_epoch", "cluster=c leader=m2", float64(w.epoch()))
		a1.shows(t, "pgagent_primary_confirmed", "cluster=c", 0)
		a1.shows(t, "pgagent_postgres_writable", "cluster=c member=m1", 0)
		a2.host.SetPostgres(writable(2))
		after(time.Second)
		a1.shows(t, "pgagent_primary_confirmed", "cluster=c", 1)
		a2.shows(t, "pgagent_postgres_timeline", "cluster=c member=m2", 2)

		// Its plan is refused: that is not applied, for as long as it lasts.
		a2.host.Fail("unit haproxy@c.service", errors.New("no room"))
		p := haproxyPlan(2)
		u := p.Resources[0].(plan.Unit)
		u.Files = []plan.File{{Path: "/etc/haproxy/c.cfg", Mode: "0640", Content: "global # other"}}
		p.Resources[0] = u
		w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(p)))
		after(time.Minute)
		if got := a2.series(t, "pgagent_plan_unapplied_seconds"); got["cluster=c concern=haproxy"] < 50 || got["cluster=c concern=postgres"] != 0 {
			t.Fatalf("unapplied: %v", got)
		}
		a2.host.Fail("unit haproxy@c.service", nil)
		after(2 * agent.RetryCap) // the pause has jitter
		if got := a2.series(t, "pgagent_plan_unapplied_seconds")["cluster=c concern=haproxy"]; got != 0 {
			t.Fatalf("unapplied: %v", got)
		}
	})
}

// TestScrapeSaysWhatAgesWithoutEtcd: an agent that can't reach etcd says so by its
// scrape, and says nothing of a primary that it can't know of.
func TestScrapeSaysWhatAgesWithoutEtcd(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := settle(t, w)
		w.etcd.Cut("pg2")
		after(20 * time.Second)
		if got := a2.series(t, "pgagent_view_age_seconds")["cluster=c"]; got < 15 || got > 25 {
			t.Fatalf("the view is %v s old", got)
		}
		a2.shows(t, "pgagent_primary_confirmed", "cluster=c", 0)
		a1.shows(t, "pgagent_primary_confirmed", "cluster=c", 1)
		w.etcd.Heal("pg2")
		after(5 * time.Second)
		a2.shows(t, "pgagent_primary_confirmed", "cluster=c", 1)
	})
}

// TestPresenceSaysWhatIsWrongWithTheHost: in the presence record, once a minute, and only
// when it changes.
func TestPresenceSaysWhatIsWrongWithTheHost(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.etcd.Put(layout.PlanKey("pg2", "c", "postgres"), string(plan.Encode(postgresPlan(2, 1))))
		w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		_, a2, _ := settle(t, w)
		notes := func() string {
			value, _, _ := w.etcd.Get(layout.AliveKey("pg2"))
			rec, err := observed.Decode[observed.Alive](kv.KV{Key: layout.AliveKey("pg2"), Value: []byte(value)})
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, c := range rec.Notes {
				out = append(out, string(c.Reason))
			}
			return strings.Join(out, " ")
		}
		after(time.Minute)
		if got := notes(); got != "" {
			t.Fatalf("of a host that is well it says %s", got)
		}
		a2.host.SetRooms(agent.Room{Folder: "data", Free: 40, Size: 1000})
		a2.host.SetClock(-5 * time.Second)
		after(2 * time.Minute)
		if got := notes(); got != "ClockWrong DiskFilling" {
			t.Fatalf("it says %q", got)
		}
		_, rev, _ := w.etcd.Get(layout.AliveKey("pg2"))
		a2.host.SetRooms(agent.Room{Folder: "data", Free: 39, Size: 1000})
		after(10 * time.Minute)
		if _, now, _ := w.etcd.Get(layout.AliveKey("pg2")); now != rev {
			t.Error("it wrote what it had said (R8)")
		}
		a2.host.SetRooms(agent.Room{Folder: "data", Free: 400, Size: 1000})
		a2.host.SetClock(0)
		after(2 * time.Minute)
		if got := notes(); got != "" {
			t.Errorf("when all is well again it says %s", got)
		}
	})
}
