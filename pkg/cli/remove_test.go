package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// removable is a running cluster of three in a model of etcd, as a command sees it.
func removable(t *testing.T) (*app, *model.Server, *bytes.Buffer) {
	t.Helper()
	l, etcd := keys.Default, model.New()
	for i, n := range []string{"pg1", "pg2", "pg3"} {
		member := "c-" + string(rune('1'+i))
		etcd.Put(l.Node(n), "address: 10.0.0.1"+n[2:])
		etcd.Put(l.AliveKey(n), string(observed.Encode(observed.Alive{Node: n})))
		etcd.Put(l.ClusterDoc("c", "members/"+member), "node: "+n)
		etcd.Put(l.PlanKey(n, "c", "postgres"), string(plan.Encode(plan.Plan{Schema: 1, Cluster: plan.Cluster{Name: "c", Member: member,
			Members: []plan.Member{{Name: member, Node: n}}}})))
	}
	etcd.Put(l.Leader("c"), "c-1")
	var errs bytes.Buffer
	a := newApp(Streams{In: &bytes.Buffer{}, Out: &bytes.Buffer{}, Err: &errs}, Deps{
		Getenv:  func(string) string { return "" },
		Connect: func(context.Context, store.Options) (*store.Client, error) { return etcd.Client("cli"), nil },
	}.withDefaults())
	a.settings.Layout = l
	return a, etcd, &errs
}

// TestR14RemoveIsGuardedByTheLeader: what was shown is what the write is made under.
// A leader that changed after it was shown, and a write in the same instant, leave
// everything as it was.
func TestR14RemoveIsGuardedByTheLeader(t *testing.T) {
	for name, target := range map[string]string{"a member": "c-3", "the cluster": ""} {
		t.Run(name, func(t *testing.T) {
			a, etcd, _ := removable(t)
			defer a.close()
			ctx := t.Context()
			l, err := a.read(ctx, append([]keys.Family{keys.Formed, keys.Plan, keys.PatroniKey}, documentFamilies...)...)
			if err != nil {
				t.Fatal(err)
			}
			r, err := lookAt(l, "c", target)
			if err != nil {
				t.Fatal(err)
			}
			c, err := r.documents(l)
			if err != nil || len(c.writes) != 1 {
				t.Fatalf("%v, %v", c.writes, err)
			}
			etcd.Put(keys.Default.Leader("c"), "c-3") // a failover, while the name was being typed
			err = a.carryOut(ctx, l, r, c, 0)
			var f *failure
			if !errors.As(err, &f) || !strings.Contains(f.cause, "the leader of c changed after it was shown. Nothing was written.") {
				t.Fatalf("it goes on: %v", err)
			}
			for key, want := range map[string]string{
				keys.Default.ClusterDoc("c", "members/c-3"): "node: pg3",
				keys.Default.ClusterDoc("c", "postgres"):    "",
			} {
				if v, _, _ := etcd.Get(key); v != want {
					t.Errorf("%s is %q", key, v)
				}
			}
		})
	}
}

// TestR14RemoveLooksAtTheLeader: who leads is not removed, nor is anything while
// nobody does or nobody can say.
func TestR14RemoveLooksAtTheLeader(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(a *app, etcd *model.Server)
		member  string
		want    string
	}{
		"the leader":       {func(*app, *model.Server) {}, "c-1", "c-1 leads c"},
		"nobody leads":     {func(_ *app, e *model.Server) { e.Delete(keys.Default.Leader("c")) }, "c-3", "nobody leads c"},
		"its agent's away": {func(_ *app, e *model.Server) { e.Delete(keys.Default.AliveKey("pg3")) }, "c-3", "the agent of node pg3 is away"},
		"the last member": {func(_ *app, e *model.Server) {
			e.Put(keys.Default.ClusterDoc("c", "members/c-1"), "node: pg1\nstate: absent")
			e.Put(keys.Default.ClusterDoc("c", "members/c-2"), "node: pg2\nstate: absent")
		}, "c-3", "c-3 is the last member of c"},
		"etcd can't be read": {func(a *app, _ *model.Server) {
			a.deps.Connect = func(context.Context, store.Options) (*store.Client, error) {
				return nil, errors.New("connection refused")
			}
		}, "c-3", "does not answer"},
		"the name is not typed": {func(*app, *model.Server) {}, "c-3", "--confirm c-3"},
	} {
		t.Run(name, func(t *testing.T) {
			a, etcd, _ := removable(t)
			defer a.close()
			c.prepare(a, etcd)
			before := etcd.Revision()
			err := a.remove(t.Context(), "c", c.member, "", false, false, writeFlags{})
			var f *failure
			if !errors.As(err, &f) || !strings.Contains(f.cause, c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if etcd.Revision() != before {
				t.Error("something was written")
			}
		})
	}
}
