package engine

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

func counter(c prometheus.Collector) int { return int(testutil.ToFloat64(c)) }

// TestR6NothingBeforeTheViewIsComplete: a slow list, a page at a time, must not
// look like a cluster without documents.
func TestR6NothingBeforeTheViewIsComplete(t *testing.T) {
	bubble(t, func(f farm) {
		f.etcd.Put(layout.Leader("pg-test"), "pg-test-1")
		f.member("pg-test", "x")
		for _, cluster := range clusters(30) {
			f.member(cluster, "x")
		}
		f.etcd.Delay("leader", 400*time.Millisecond)
		c := &fake{name: "haproxy"}
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			if _, ok := in.Snapshot.Get(layout.Leader("pg-test")); in.Cluster == "pg-test" && !ok {
				t.Error("planned without the leader key, which was there all the time")
			}
			if len(in.Snapshot.Range(layout.ClusterDocs(in.Cluster)+"members/")) == 0 {
				t.Errorf("planned %s without its documents", in.Cluster)
			}
			return copyMembers("haproxy")(in)
		}
		e, _ := f.engine("leader", Options{}, c)
		if c.called("") != 0 || e.Ready() == nil {
			t.Error("ready before anything was read")
		}
		time.Sleep(patience)
		if c.called("") < 31 {
			t.Errorf("planned %d clusters", c.called(""))
		}
	})
}

// TestR6NothingFromAnOldView: streams that hang deliver nothing, while leadership
// is in good health and timers go off.
func TestR6NothingFromAnOldView(t *testing.T) {
	bubble(t, func(f farm) {
		c := &fake{name: "haproxy"}
		var running atomic.Pointer[Engine]
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			if e := running.Load(); e != nil && e.Ready() != nil {
				t.Errorf("planned while %v", e.Ready())
			}
			r, err := copyMembers("haproxy")(in)
			r.After = 100 * time.Millisecond
			return r, err
		}
		f.member("pg-test", "x")
		e, _ := f.engine("leader", Options{}, c)
		running.Store(e)
		time.Sleep(2500 * time.Millisecond)
		f.etcd.DropWatch("leader")
		f.member("pg-test", "y")
		time.Sleep(3500 * time.Millisecond) // the view is older than 3 s now
		calls := c.called("")
		time.Sleep(500 * time.Millisecond)
		if n := c.called("") - calls; n != 0 || e.Ready() == nil {
			t.Errorf("planned %d times, ready: %v", n, e.Ready())
		}
		if _, ok := e.Leading(); !ok {
			t.Fatal("leadership was lost; the test shows nothing")
		}
		time.Sleep(10 * time.Second)
		f.expect(planOf("pg-test", "haproxy"), "y")
	})
}

// TestR6StandbyPlansNothing, and takes over with what the leader wrote last.
func TestR6StandbyPlansNothing(t *testing.T) {
	bubble(t, func(f farm) {
		f.member("pg-test", "x")
		a, b := &fake{name: "haproxy"}, &fake{name: "haproxy"}
		first, stop := f.engine("first", Options{}, a)
		time.Sleep(time.Second)
		second, _ := f.engine("second", Options{}, b)
		time.Sleep(patience)
		if b.called("") != 0 || second.Ready() != nil {
			t.Errorf("standby planned %d times; ready: %v", b.called(""), second.Ready())
		}
		before, _ := first.Leading()
		stop()
		if first.Healthy() == nil {
			t.Error("an engine that ended is healthy")
		}
		f.member("pg-test", "y")
		f.settle()
		f.expect(planOf("pg-test", "haproxy"), "y")
		if after, ok := second.Leading(); !ok || after <= before {
			t.Errorf("epoch %d after %d", after, before)
		}
	})
}

// TestR7LateWriteIsRefused: the write of a leader is on its way when another one
// takes over; etcd must refuse it when it arrives.
func TestR7LateWriteIsRefused(t *testing.T) {
	bubble(t, func(f farm) {
		old := &fake{name: "haproxy"}
		old.plan = func(in controllers.Input) (controllers.Result, error) {
			r, err := copyMembers("haproxy")(in)
			for i := range r.Outputs {
				r.Outputs[i].Value = append(r.Outputs[i].Value, " by the old leader"...)
			}
			return r, err
		}
		f.member("pg-test", "1")
		e, _ := f.engine("old", Options{}, old)
		f.settle()
		f.expect(planOf("pg-test", "haproxy"), "1 by the old leader")

		// The link of the old leader becomes slow, then it is deposed while it does
		// not know.
		f.etcd.Delay("old", 2*time.Second)
		calls := old.called("")
		f.member("pg-test", "2")
		for old.called("") == calls {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(500 * time.Millisecond) // its write takes a second to arrive
		f.etcd.Delete(layout.ElectionKey())
		f.engine("new", Options{}, &fake{name: "haproxy"})
		f.settle()
		f.expect(planOf("pg-test", "haproxy"), "2")
		for range 200 {
			time.Sleep(100 * time.Millisecond)
			f.expect(planOf("pg-test", "haproxy"), "2")
		}
		if result(e, "haproxy", resultConflict)+result(e, "haproxy", resultError) == 0 {
			t.Error("the old leader's write was never refused; the test shows nothing")
		}
	})
}

// TestR7CutLeaderStops: a leader that is cut off stops by its own clock, before
// anybody else can lead.
func TestR7CutLeaderStops(t *testing.T) {
	bubble(t, func(f farm) {
		c := &fake{name: "haproxy"}
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			r, err := copyMembers("haproxy")(in)
			r.After = 100 * time.Millisecond
			return r, err
		}
		f.member("pg-test", "1")
		old, _ := f.engine("old", Options{}, c)
		time.Sleep(time.Second)
		f.engine("new", Options{}, &fake{name: "haproxy"})
		time.Sleep(time.Second)
		f.etcd.Cut("old")
		stopped := time.Duration(0)
		for started := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			if _, ok := old.Leading(); !ok && stopped == 0 {
				stopped = time.Since(started)
			}
			if holder, _, ok := f.etcd.Get(layout.ElectionKey()); ok && holder == "new" {
				if stopped == 0 || time.Since(started)-stopped < time.Second {
					t.Errorf("the old leader stopped after %s, the new one leads after %s", stopped, time.Since(started))
				}
				break
			}
			if time.Since(started) > patience {
				t.Fatal("nobody takes over")
			}
		}
		calls := c.called("")
		time.Sleep(patience)
		if c.called("") != calls {
			t.Error("the cut off leader goes on planning")
		}
	})
}

// TestR8QuietWhenIdle: at steady state nothing is written, whatever is looked at.
func TestR8QuietWhenIdle(t *testing.T) {
	bubble(t, func(f farm) {
		c := &fake{name: "haproxy"}
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			r, err := copyMembers("haproxy")(in)
			r.After = time.Minute
			return r, err
		}
		for _, cluster := range clusters(10) {
			f.member(cluster, "x")
		}
		e := f.leader(c)
		rev, calls := f.etcd.Revision(), c.called("")
		time.Sleep(time.Hour)
		if f.etcd.Revision() != rev {
			t.Errorf("%d writes in an hour", f.etcd.Revision()-rev)
		}
		if n := c.called("") - calls; n < 500 {
			t.Errorf("looked %d times in an hour; the test shows nothing", n)
		}
		if counter(e.metrics.skipped) == 0 || e.bulk.Divergences() != 0 {
			t.Errorf("skipped %d, divergences %d", counter(e.metrics.skipped), e.bulk.Divergences())
		}
	})
}

func TestOlderEngineDoesNotCampaign(t *testing.T) {
	bubble(t, func(f farm) {
		f.etcd.Put(layout.StoreKey(), string(observed.Encode(observed.Store{Incarnation: "i", Newest: "v0.2.0"})))
		e, _ := f.engine("old", Options{Version: "v0.1.9"}, &fake{name: "haproxy"})
		time.Sleep(patience)
		if _, ok := e.Leading(); ok {
			t.Error("an older engine leads")
		}
		f.etcd.Put(layout.StoreKey(), string(observed.Encode(observed.Store{Incarnation: "i", Newest: "v0.1.0"})))
		time.Sleep(2 * time.Second)
		if _, ok := e.Leading(); !ok {
			t.Error("it does not lead when it may")
		}
	})
}

func TestDeclarationsThatAreRefused(t *testing.T) {
	plan := func(name, part string) *fake {
		return &fake{name: name, outputs: []controllers.Access{{Family: keys.Plan, Part: part}}}
	}
	for want, cs := range map[string][]controllers.Controller{
		"both a and b write plan x": {plan("a", "x"), plan("b", "x")},
		"both a and b write plan":   {plan("a", "x"), plan("b", "")},
		"two controllers are named": {plan("a", "x"), plan("a", "y")},
		"a reads \"changes\"":       {&fake{name: "a", inputs: []controllers.Access{{Family: keys.Changes}}}},
		"a writes Patroni's keys":   {&fake{name: "a", outputs: []controllers.Access{{Family: keys.PatroniKey, Part: "config"}}}},
		"a writes \"\", which":      {&fake{name: "a", outputs: []controllers.Access{{}}}},
	} {
		if _, err := New(Options{Controllers: cs}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, expected %q", err, want)
		}
	}
	if _, err := New(Options{Controllers: []controllers.Controller{plan("a", "x"), plan("b", "y")}}); err != nil {
		t.Error(err)
	}
}

func TestGraph(t *testing.T) {
	e, err := New(Options{Controllers: []controllers.Controller{
		&fake{name: "haproxy", inputs: []controllers.Access{{Family: keys.Desired, Part: "members", Fleet: true}, {Family: keys.Alive}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := `flowchart LR
    haproxy((haproxy))
    k_desired_clusters_members["desired/clusters members"] -- every cluster --> haproxy
    k_alive["alive"] --> haproxy
    haproxy ==> k_plan_haproxy["plan haproxy"]
`
	if got := e.Graph(); got != want {
		t.Errorf("got\n%sexpected\n%s", got, want)
	}
}

func TestMetrics(t *testing.T) {
	bubble(t, func(f farm) {
		f.member("pg-test", "x")
		registry := prometheus.NewRegistry()
		e := f.leader(&fake{name: "haproxy"})
		if err := e.metrics.register(registry); err != nil {
			t.Fatal(err)
		}
		want := `
# HELP pgctrl_engine_leader 1 while this engine leads.
# TYPE pgctrl_engine_leader gauge
pgctrl_engine_leader 1
# HELP pgctrl_engine_panics_total Panics of controllers, undeclared reads included.
# TYPE pgctrl_engine_panics_total counter
pgctrl_engine_panics_total 0
# HELP pgctrl_engine_queue_depth Keys that wait for a worker.
# TYPE pgctrl_engine_queue_depth gauge
pgctrl_engine_queue_depth 0
# HELP pgctrl_engine_writes_total Keys written, by family.
# TYPE pgctrl_engine_writes_total counter
pgctrl_engine_writes_total{family="plan"} 1
# HELP pgctrl_store_divergence_total Keys that a full compare found different from etcd; not 0 is a fault.
# TYPE pgctrl_store_divergence_total counter
pgctrl_store_divergence_total{mirror="bulk"} 0
pgctrl_store_divergence_total{mirror="fast"} 0
`
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "pgctrl_engine_leader", "pgctrl_engine_panics_total",
			"pgctrl_engine_queue_depth", "pgctrl_engine_writes_total", "pgctrl_store_divergence_total"); err != nil {
			t.Error(err)
		}
		if lint, err := testutil.GatherAndLint(registry); err != nil || len(lint) > 0 {
			t.Errorf("%v %v", lint, err)
		}
	})
}
