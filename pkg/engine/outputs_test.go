package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func TestOutputsThatAreRefused(t *testing.T) {
	for name, key := range map[string]string{
		"another concern":    layout.PlanKey("n1", "pg-test", "vip"),
		"another cluster":    layout.PlanKey("n1", "pg-test2", "haproxy"),
		"another family":     layout.StatusKey("pg-test"),
		"a document":         layout.ClusterDoc("pg-test", "members/pg-test-1"),
		"nowhere":            "/elsewhere",
		"a secret, by value": layout.Secret("pg-test", "postgres"),
		"twice":              layout.PlanKey("n2", "pg-test", "haproxy"),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(f farm) {
				c := &fake{name: "haproxy", outputs: []controllers.Access{{Family: keys.Plan, Part: "haproxy"}, {Family: keys.Secrets}}}
				c.plan = func(in controllers.Input) (controllers.Result, error) {
					good := layout.PlanKey("n2", in.Cluster, "haproxy")
					return outputs(good, "good", key, "bad"), nil
				}
				f.member("pg-test", "x")
				rev := f.etcd.Revision()
				e := f.leader(c)
				if n := result(e, "haproxy", resultError); n == 0 {
					t.Error("nobody complains")
				}
				f.expect(layout.PlanKey("n2", "pg-test", "haproxy"), "")
				if f.etcd.Revision() > rev+1 { // the election
					t.Error("something was written")
				}
			})
		})
	}
}

// TestModes: what is decided once stays, secrets are minted and never seen.
func TestModes(t *testing.T) {
	bubble(t, func(f farm) {
		secret, given, formed := layout.Secret("pg-test", "postgres"), layout.Secret("pg-test", "given"), layout.FormedKey("pg-test")
		c := &fake{
			name:    "postgres",
			inputs:  []controllers.Access{{Family: keys.Desired}, {Family: keys.Secrets}},
			outputs: []controllers.Access{{Family: keys.Formed}, {Family: keys.Secrets}},
		}
		var seen []string
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			for _, e := range in.Snapshot.Range(layout.ClusterSecrets(in.Cluster)) {
				seen = append(seen, string(e.Value))
			}
			r := outputs(formed, fmt.Sprint(c.called("")), secret, "ignored", given, "ignored")
			r.Outputs[0].Mode, r.Outputs[1].Mode, r.Outputs[2].Mode = controllers.Once, controllers.Mint, controllers.Mint
			return r, nil
		}
		f.member("pg-test", "x")
		f.etcd.Put(given, "by people")
		f.leader(c)
		value, rev, _ := f.etcd.Get(secret)
		if len(value) != 43 || strings.ContainsAny(value, "+/= ") {
			t.Errorf("minted %q", value)
		}
		f.expect(formed, "1")
		f.expect(given, "by people")
		f.member("pg-test", "y")
		f.settle()
		if again, now, _ := f.etcd.Get(secret); again != value || now != rev {
			t.Error("the secret was minted again")
		}
		f.expect(formed, "1")
		if len(seen) == 0 || slices.ContainsFunc(seen, func(s string) bool { return s != "" }) {
			t.Errorf("a controller sees secrets: %q", seen)
		}
	})
}

func TestPlanTooLarge(t *testing.T) {
	bubble(t, func(f farm) {
		c := &fake{name: "haproxy"}
		size := MaxPlan
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			return outputs(planOf(in.Cluster, "haproxy"), strings.Repeat("x", size)), nil
		}
		f.member("pg-test", "1")
		e := f.leader(c)
		_, good, _ := f.etcd.Get(planOf("pg-test", "haproxy"))
		size++
		f.member("pg-test", "2")
		f.settle()
		calls := c.called("")
		time.Sleep(5 * time.Minute)
		if v, rev, _ := f.etcd.Get(planOf("pg-test", "haproxy")); rev != good || len(v) != MaxPlan {
			t.Errorf("the last good plan does not stay: %d bytes at %d", len(v), rev)
		}
		if c.called("") != calls || result(e, "haproxy", resultTooLarge) != 1 {
			t.Errorf("a plan that is too large was tried %d times, counted %d times", c.called("")-calls+1, result(e, "haproxy", resultTooLarge))
		}
		conditions := e.term.Load().conditions[Key{"haproxy", "pg-test"}]
		if len(conditions) != 1 || conditions[0].Reason != observed.PlanTooLarge {
			t.Errorf("conditions are %v", conditions)
		}
	})
}

// TestManyOutputs: more than a transaction holds goes into several, and settles.
func TestManyOutputs(t *testing.T) {
	bubble(t, func(f farm) {
		c := &fake{name: "haproxy"}
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			var r controllers.Result
			for i := range 300 {
				r.Outputs = append(r.Outputs, controllers.Output{
					Key: layout.PlanKey(fmt.Sprintf("n%03d", i), in.Cluster, "haproxy"), Value: []byte(strings.Repeat("x", 10_000)),
				})
			}
			return r, nil
		}
		f.member("pg-test", "x")
		e := f.leader(c)
		for _, node := range []string{"n000", "n150", "n299"} {
			if v, _, _ := f.etcd.Get(layout.PlanKey(node, "pg-test", "haproxy")); len(v) != 10_000 {
				t.Errorf("%s has a plan of %d bytes", node, len(v))
			}
		}
		if n := result(e, "haproxy", resultConflict); n != 0 {
			t.Errorf("%d conflicts with itself", n)
		}
	})
}

// TestDelete: a key goes only when a controller says so, and only as it was seen;
// after a deletion the key settles like after a write.
func TestDelete(t *testing.T) {
	bubble(t, func(f farm) {
		c := &fake{name: "haproxy"}
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			r := outputs(planOf(in.Cluster, "haproxy"), "x")
			for _, e := range in.Snapshot.Range(in.Layout.ClusterDocs(in.Cluster) + "members/") {
				if string(e.Value) == "remove" {
					r.Outputs[0].Mode = controllers.Delete
				}
			}
			return r, nil
		}
		f.member("pg-test", "stay")
		e := f.leader(c)
		f.expect(planOf("pg-test", "haproxy"), "x")
		f.member("pg-test", "remove")
		f.settle()
		f.expect(planOf("pg-test", "haproxy"), "")
		rev := f.etcd.Revision()
		time.Sleep(time.Hour)
		if f.etcd.Revision() != rev || result(e, "haproxy", resultConflict) > 0 {
			t.Errorf("it does not settle: revision %d after %d", f.etcd.Revision(), rev)
		}
		f.member("pg-test", "stay")
		f.settle()
		f.expect(planOf("pg-test", "haproxy"), "x")
	})
}

// whileDocumented writes a status and a secret for as long as there are documents.
func whileDocumented(in controllers.Input) (controllers.Result, error) {
	r := outputs(in.Layout.StatusKey(in.Cluster), "x", in.Layout.Secret(in.Cluster, "replication"), "x")
	r.Outputs[1].Mode = controllers.Once
	if len(in.Snapshot.Range(in.Layout.ClusterDocs(in.Cluster))) == 0 {
		r.Outputs[0].Mode, r.Outputs[1].Mode = controllers.Delete, controllers.Delete
	}
	return r, nil
}

// TestWhatAClusterLeftBehindIsTakenAway: what a controller wrote just as the last
// document went, and what a server that was killed then left, is looked at although
// nothing else makes its cluster one.
func TestWhatAClusterLeftBehindIsTakenAway(t *testing.T) {
	bubble(t, func(f farm) {
		f.etcd.Put(layout.StatusKey("before"), "left when nobody led")
		f.leader(&fake{name: "status", outputs: []controllers.Access{{Family: keys.Status}, {Family: keys.Secrets}}, plan: whileDocumented})
		f.expect(layout.StatusKey("before"), "")
		for _, left := range []string{layout.StatusKey("pg-test"), layout.Secret("pg-test", "replication")} {
			f.etcd.Put(left, "it arrives after the last document went")
			f.settle()
			f.expect(left, "")
		}
	})
}

// TestDeletedInOneTransaction: a status that goes together with the documents it was made
// from may be seen to go before they do, and be written once more. It does not stay.
func TestDeletedInOneTransaction(t *testing.T) {
	bubble(t, func(f farm) {
		f.leader(&fake{name: "status", outputs: []controllers.Access{{Family: keys.Status}, {Family: keys.Secrets}}, plan: whileDocumented})
		person := f.etcd.Client("person")
		again := 0
		for range 200 {
			f.member("pg-test", "x")
			f.settle()
			f.expect(layout.StatusKey("pg-test"), "x")
			rev, err := person.Commit(context.Background(), nil, []store.Op{
				store.Delete(layout.StatusKey("pg-test")), store.Delete(layout.Secret("pg-test", "replication")),
				store.Delete(layout.ClusterDoc("pg-test", "members/pg-test-1")),
			})
			if err != nil {
				f.Fatal(err)
			}
			f.settle()
			f.expect(layout.StatusKey("pg-test"), "")
			f.expect(layout.Secret("pg-test", "replication"), "")
			if f.etcd.Revision() > rev {
				again++
			}
		}
		if err := person.Close(); err != nil {
			f.Error(err)
		}
		if again == 0 {
			f.Error("nothing was ever written once more: this test shows nothing")
		}
		f.Logf("written once more %d of 200 times", again)
	})
}

// TestR6AnOutputThatVanishesIsKept: leaving a key out is no deletion.
func TestR6AnOutputThatVanishesIsKept(t *testing.T) {
	bubble(t, func(f farm) {
		f.member("pg-test", "x")
		f.leader(&fake{name: "haproxy"}) // plans nothing for a cluster without members
		f.expect(planOf("pg-test", "haproxy"), "x")
		f.etcd.Delete(layout.ClusterDoc("pg-test", "members/pg-test-1"))
		f.settle()
		time.Sleep(time.Hour)
		f.expect(planOf("pg-test", "haproxy"), "x")
	})
}
