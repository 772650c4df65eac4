package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

func TestDocumentsBecomePlans(t *testing.T) {
	bubble(t, func(f farm) {
		f.member("pg-test", "before")
		c := &fake{name: "haproxy"}
		f.leader(c)
		f.expect(planOf("pg-test", "haproxy"), "before")
		f.member("pg-test", "after")
		f.member("pg-test2", "new")
		f.settle()
		f.expect(planOf("pg-test", "haproxy"), "after")
		f.expect(planOf("pg-test2", "haproxy"), "new")
		// A plan changed or deleted by hand is put right.
		f.etcd.Put(planOf("pg-test", "haproxy"), "by hand")
		f.etcd.Delete(planOf("pg-test2", "haproxy"))
		f.settle()
		f.expect(planOf("pg-test", "haproxy"), "after")
		f.expect(planOf("pg-test2", "haproxy"), "new")
	})
}

// TestDeletedDocumentsKeepPlans: absence is not deletion (R6).
func TestDeletedDocumentsKeepPlans(t *testing.T) {
	bubble(t, func(f farm) {
		f.member("pg-test", "before")
		c := &fake{name: "haproxy"}
		e := f.leader(c)
		f.etcd.Delete(layout.ClusterDoc("pg-test", "members/pg-test-1"))
		calls := c.called("pg-test")
		f.settle()
		if c.called("pg-test") == calls {
			t.Error("the last document went, and nobody looked")
		}
		f.expect(planOf("pg-test", "haproxy"), "before")
		if got := e.Clusters(); !slices.Equal(got, []string{"pg-test"}) {
			t.Errorf("clusters are %q; one with plans is one", got)
		}
	})
}

// TestTenChangesAreOneLook: what changes while a controller plans makes it plan
// once more, with all of it.
func TestTenChangesAreOneLook(t *testing.T) {
	bubble(t, func(f farm) {
		f.member("pg-test", "0")
		block := make(chan struct{}, 1)
		block <- struct{}{}
		c := &fake{name: "haproxy"}
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			<-block
			defer func() { block <- struct{}{} }()
			return copyMembers("haproxy")(in)
		}
		f.leader(c)
		<-block // the next look takes its time
		f.member("pg-test", "1")
		f.settle()
		calls := c.called("pg-test")
		for i := range 10 {
			f.member("pg-test", fmt.Sprint(i))
		}
		f.settle()
		block <- struct{}{}
		f.settle()
		// One for the ten, one because its own write came back.
		if n := c.called("pg-test") - calls; n > 3 {
			t.Errorf("ten changes led to %d looks", n)
		}
		f.expect(planOf("pg-test", "haproxy"), "9")
	})
}

// TestOneWorkerPerKey: keys are worked on side by side, one key never.
func TestOneWorkerPerKey(t *testing.T) {
	bubble(t, func(f farm) {
		var mu sync.Mutex
		busy, most := map[string]bool{}, 0
		c := &fake{name: "haproxy"}
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			mu.Lock()
			if busy[in.Cluster] {
				t.Errorf("%s is worked on twice", in.Cluster)
			}
			busy[in.Cluster] = true
			most = max(most, len(busy))
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			delete(busy, in.Cluster)
			mu.Unlock()
			return copyMembers("haproxy")(in)
		}
		f.leader(c)
		for i := range 50 {
			for _, cluster := range clusters(6) {
				f.member(cluster, fmt.Sprint(i))
			}
			time.Sleep(300 * time.Microsecond)
		}
		time.Sleep(time.Second)
		f.settle()
		for _, cluster := range clusters(6) {
			f.expect(planOf(cluster, "haproxy"), "49")
		}
		if most < 2 {
			t.Errorf("at most %d keys were worked on at once", most)
		}
	})
}

// TestFailureTouchesNoOtherKey: an error, a panic and an undeclared read back off
// their own key, each counted as what it is.
func TestFailureTouchesNoOtherKey(t *testing.T) {
	for name, c := range map[string]struct {
		fail   func(controllers.Input) error
		result string
		panics bool
	}{
		"error":          {func(controllers.Input) error { return errors.New("no") }, resultError, false},
		"panic":          {func(controllers.Input) error { panic(errors.New("planted")) }, resultPanic, true},
		"undeclared get": {func(in controllers.Input) error { in.Snapshot.Get(layout.FormedKey("bad")); return nil }, resultUndeclared, true},
		"undeclared range": {func(in controllers.Input) error {
			in.Snapshot.Range(layout.Prefix(keys.Observed))
			return nil
		}, resultUndeclared, true},
		"another cluster": {func(in controllers.Input) error { in.Snapshot.Get(layout.Leader("good")); return nil }, resultUndeclared, true},
		"undeclared part": {func(in controllers.Input) error {
			in.Snapshot.Get(layout.ClusterDoc("bad", "services/primary"))
			return nil
		}, resultUndeclared, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(f farm) {
				var heal atomic.Bool
				ctl := &fake{name: "haproxy"}
				ctl.plan = func(in controllers.Input) (controllers.Result, error) {
					if in.Cluster == "bad" && !heal.Load() {
						if err := c.fail(in); err != nil {
							return controllers.Result{}, err
						}
					}
					return copyMembers("haproxy")(in)
				}
				f.member("bad", "x")
				f.member("good", "x")
				e := f.leader(ctl)
				time.Sleep(5 * time.Minute)
				f.expect(planOf("good", "haproxy"), "x")
				f.expect(planOf("bad", "haproxy"), "")
				// Doubling from 0.1 s to 30 s: some twenty times in five minutes.
				if n := result(e, "haproxy", c.result); n < 12 || n > 40 {
					t.Errorf("%d steps ended as %s", n, c.result)
				}
				if n := counter(e.metrics.panics); (n > 0) != c.panics {
					t.Errorf("%d panics counted", n)
				}
				// Who fixes it need not wait for the backoff.
				heal.Store(true)
				f.member("bad", "fixed")
				f.settle()
				f.expect(planOf("bad", "haproxy"), "fixed")
			})
		})
	}
}

func TestDeclaredReads(t *testing.T) {
	bubble(t, func(f farm) {
		c := &fake{name: "status", inputs: []controllers.Access{
			{Family: keys.Desired, Part: "members", Fleet: true}, {Family: keys.Desired}, {Family: keys.Plan},
			{Family: keys.Observed, Part: "haproxy"}, {Family: keys.Nodes}, {Family: keys.Store}, {Family: keys.PatroniKey},
		}, outputs: []controllers.Access{{Family: keys.Status}}}
		var got []string
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			if in.Cluster != "pg-test" {
				return controllers.Result{}, nil
			}
			got = nil
			for _, prefix := range []string{
				layout.DesiredPrefix(), layout.Prefix(keys.Plan), layout.Prefix(keys.Observed), layout.NodePlans("n1"),
				layout.Scope("pg-test"), layout.Prefix(keys.PatroniKey), layout.Prefix(keys.Store),
			} {
				got = append(got, "range "+prefix)
				for _, e := range in.Snapshot.Range(prefix) {
					got = append(got, e.Key)
				}
			}
			return controllers.Result{}, nil
		}
		for _, key := range []string{
			layout.Node("n1"), layout.DefaultsDoc("postgres"),
			layout.ClusterDoc("pg-test", "members/pg-test-1"), layout.ClusterDoc("pg-test", "misplaced/a/b/c"), layout.ClusterDoc("pg-test", "services/x"),
			layout.ClusterDoc("pg-test2", "members/pg-test2-1"), layout.ClusterDoc("pg-test2", "services/x"),
			layout.PlanKey("n1", "pg-test", "haproxy"), layout.PlanKey("n1", "pg-test2", "haproxy"), layout.PlanKey("n2", "pg-test", "vip"),
			layout.PlanKey("n1", keys.NodeCluster, "dns"),
			layout.ObservedKey("n1", "pg-test", "haproxy"), layout.ObservedKey("n1", "pg-test", "vip"),
			layout.Leader("pg-test"), layout.Leader("pg-test2"), layout.StoreKey(),
		} {
			f.etcd.Put(key, "x")
		}
		f.leader(c)
		want := `range /pgctrl/desired/
/pgctrl/desired/clusters/pg-test/members/pg-test-1
/pgctrl/desired/clusters/pg-test/misplaced/a/b/c
/pgctrl/desired/clusters/pg-test/services/x
/pgctrl/desired/clusters/pg-test2/members/pg-test2-1
/pgctrl/desired/nodes/n1
range /pgctrl/plan/
/pgctrl/plan/n1/_node/dns
/pgctrl/plan/n1/pg-test/haproxy
/pgctrl/plan/n2/pg-test/vip
range /pgctrl/observed/
/pgctrl/observed/n1/pg-test/haproxy
range /pgctrl/plan/n1/
/pgctrl/plan/n1/_node/dns
/pgctrl/plan/n1/pg-test/haproxy
range /pg/pg-test/
/pg/pg-test/leader
range /pg/
/pg/pg-test/leader
range /pgctrl/store
/pgctrl/store`
		if s := strings.Join(got, "\n"); s != want {
			t.Errorf("read\n%s\nexpected\n%s", s, want)
		}
	})
}

// TestWhoIsWoken: a change goes to those who declared it, and to nobody else.
func TestWhoIsWoken(t *testing.T) {
	bubble(t, func(f farm) {
		local := &fake{name: "local"}
		fleet := &fake{name: "fleet", inputs: []controllers.Access{
			{Family: keys.Desired, Part: "members", Fleet: true}, {Family: keys.Alive}, {Family: keys.Secrets}, {Family: keys.Observed, Part: "fleet"},
		}}
		for _, cluster := range []string{"pg-a", "pg-b"} {
			f.member(cluster, "x")
		}
		leader := layout.Leader("pg-a")
		f.etcd.Put(leader, "pg-a-1")
		f.leader(local, fleet)
		for what, c := range map[string]struct {
			do   func()
			want string // calls of local for a and b, of fleet for a and b
		}{
			"a member":                       {func() { f.member("pg-a", "y") }, "2 0 2 1"}, // twice: the plan changes with it
			"a member, rewritten":            {func() { f.member("pg-b", "x") }, "0 1 1 1"},
			"another document":               {func() { f.etcd.Put(layout.ClusterDoc("pg-a", "services/x"), "x") }, "0 0 0 0"},
			"the leader":                     {func() { f.etcd.Put(leader, "pg-a-2") }, "1 0 0 0"},
			"the leader, again":              {func() { f.etcd.Put(leader, "pg-a-2") }, "0 0 0 0"},
			"a heartbeat":                    {func() { f.etcd.Put(layout.Members("pg-a")+"pg-a-1", `{"xlog_location":5}`) }, "0 0 0 0"},
			"a presence":                     {func() { f.etcd.Put(layout.AliveKey("n1"), "x") }, "0 0 1 1"},
			"a secret":                       {func() { f.etcd.Put(layout.Secret("pg-b", "postgres"), "x") }, "0 0 0 1"},
			"a report":                       {func() { f.etcd.Put(layout.ObservedKey("n1", "pg-a", "fleet"), "x") }, "0 0 1 0"},
			"a report to another":            {func() { f.etcd.Put(layout.ObservedKey("n1", "pg-a", "other"), "x") }, "0 0 0 0"},
			"a report of no cluster we know": {func() { f.etcd.Put(layout.ObservedKey("n1", "pg-z", "fleet"), "x") }, "0 0 0 0"},
			"a cluster with a bad name":      {func() { f.etcd.Put(layout.ClusterDoc("BAD", "members/x"), "x") }, "0 0 1 1"},
		} {
			count := func() [4]int {
				return [4]int{local.called("pg-a"), local.called("pg-b"), fleet.called("pg-a"), fleet.called("pg-b")}
			}
			if what == "the leader, again" {
				f.etcd.Put(leader, "pg-a-2")
			}
			time.Sleep(settle)
			f.settle()
			before := count()
			c.do()
			if f.settle(); what == "the leader" && count() != before {
				t.Error("a move is looked at while it goes on")
			}
			time.Sleep(settle)
			f.settle()
			after := count()
			for i := range after {
				after[i] -= before[i]
			}
			if got := strings.Trim(fmt.Sprint(after), "[]"); got != c.want {
				t.Errorf("%s: looked %s times, expected %s", what, got, c.want)
			}
			f.etcd.Put(leader, "pg-a-1")
			f.member("pg-a", "x")
			f.settle()
		}
	})
}

// TestShared: a controller of what clusters share is asked once, whatever cluster changed,
// and nobody else writes there.
func TestShared(t *testing.T) {
	bubble(t, func(f farm) {
		key := layout.PlanKey("n1", keys.NodeCluster, "dnsmasq")
		s := &sharedFake{fake{name: "dnsmasq", inputs: []controllers.Access{
			{Family: keys.Desired, Part: "dns", Fleet: true}, {Family: keys.Desired, Part: "vip"}, {Family: keys.Nodes}, {Family: keys.Observed, Part: "dnsmasq"},
		}}}
		s.plan = func(in controllers.Input) (controllers.Result, error) {
			for _, prefix := range []string{layout.Prefix(keys.Plan), layout.Prefix(keys.Observed)} {
				if n := len(in.Snapshot.Range(prefix)); n > 1 {
					t.Errorf("sees %d keys under %s, of which there is one", n, prefix)
				}
			}
			return controllers.Result{Outputs: []controllers.Output{{Key: key, Value: []byte(fmt.Sprint(len(in.Snapshot.Range(layout.DesiredPrefix()))))}}}, nil
		}
		thief := &fake{name: "thief", outputs: []controllers.Access{{Family: keys.Plan, Part: "thief"}}}
		thief.plan = func(controllers.Input) (controllers.Result, error) {
			return controllers.Result{Outputs: []controllers.Output{{Key: layout.PlanKey("n1", keys.NodeCluster, "thief"), Value: []byte("x")}}}, nil
		}
		f.etcd.Put(layout.ClusterDoc("pg-a", "dns"), "x")
		f.etcd.Put(layout.ClusterDoc("pg-b", "dns"), "x")
		f.leader(s, thief)
		f.expect(key, "2")
		if _, _, written := f.etcd.Get(layout.PlanKey("n1", keys.NodeCluster, "thief")); written {
			t.Error("a cluster's controller wrote what clusters share")
		}
		for what, c := range map[string]struct {
			key  string
			want int
		}{
			"a document of a cluster": {layout.ClusterDoc("pg-b", "dns"), 1},
			"one of a new cluster":    {layout.ClusterDoc("pg-c", "dns"), 2}, // twice: the plan changes with it
			"one it does not share":   {layout.ClusterDoc("pg-b", "vip"), 0},
			"a node":                  {layout.Node("n1"), 2},
			"its node's report":       {layout.ObservedKey("n1", keys.NodeCluster, "dnsmasq"), 1},
			"a cluster's report":      {layout.ObservedKey("n1", "pg-a", "dnsmasq"), 0},
		} {
			before := s.called("")
			f.etcd.Put(c.key, what)
			f.settle()
			if n := s.called("") - before; n != c.want || s.called(keys.NodeCluster) != s.called("") {
				t.Errorf("%s: looked %d times, expected %d", what, n, c.want)
			}
		}
	})
}

func TestAfter(t *testing.T) {
	bubble(t, func(f farm) {
		c := &fake{name: "haproxy"}
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			r, err := copyMembers("haproxy")(in)
			r.After = 10 * time.Second
			return r, err
		}
		f.member("pg-test", "x")
		f.leader(c)
		calls := c.called("")
		time.Sleep(patience + time.Second)
		if n := c.called("") - calls; n != 6 {
			t.Errorf("looked %d times in a minute, expected 6", n)
		}
	})
}
