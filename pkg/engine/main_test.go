package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var layout = keys.Default

// fake is a controller made of a function. Unless told otherwise it reads members
// and the leader and writes plans of its own name.
type fake struct {
	name    string
	inputs  []controllers.Access
	outputs []controllers.Access
	plan    func(controllers.Input) (controllers.Result, error)

	mu    sync.Mutex
	calls []string
}

// sharedFake is one of what clusters share.
type sharedFake struct{ fake }

func (*sharedFake) Shared() {}

func (f *fake) Name() string { return f.name }

func (f *fake) Inputs() []controllers.Access {
	if f.inputs != nil {
		return f.inputs
	}
	return []controllers.Access{{Family: keys.Desired, Part: "members"}, {Family: keys.PatroniKey, Part: "leader"}}
}

func (f *fake) Outputs() []controllers.Access {
	if f.outputs != nil {
		return f.outputs
	}
	return []controllers.Access{{Family: keys.Plan, Part: f.name}}
}

func (f *fake) Plan(in controllers.Input) (controllers.Result, error) {
	f.mu.Lock()
	f.calls = append(f.calls, in.Cluster)
	f.mu.Unlock()
	if f.plan == nil {
		return copyMembers(f.name)(in)
	}
	return f.plan(in)
}

// called is how often the cluster was planned; of all clusters when empty.
func (f *fake) called(cluster string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == cluster || cluster == "" {
			n++
		}
	}
	return n
}

// copyMembers plans, on node n1, the values of the cluster's members.
func copyMembers(concern string) func(controllers.Input) (controllers.Result, error) {
	return func(in controllers.Input) (controllers.Result, error) {
		var values []string
		for _, e := range in.Snapshot.Range(in.Layout.ClusterDocs(in.Cluster) + "members/") {
			values = append(values, string(e.Value))
		}
		if len(values) == 0 {
			return controllers.Result{}, nil
		}
		return outputs(in.Layout.PlanKey("n1", in.Cluster, concern), strings.Join(values, ",")), nil
	}
}

func outputs(pairs ...string) controllers.Result {
	var r controllers.Result
	for i := 0; i < len(pairs); i += 2 {
		r.Outputs = append(r.Outputs, controllers.Output{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return r
}

// farm is an etcd and the engines on it, in a bubble.
type farm struct {
	*testing.T
	etcd *model.Server
}

func bubble(t *testing.T, test func(f farm)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(farm{t, model.New()}) })
}

// engine starts an engine on a link of its own; stop ends it as SIGTERM does.
func (f farm) engine(name string, o Options, cs ...controllers.Controller) (e *Engine, stop func()) {
	f.Helper()
	c := f.etcd.Client(name)
	o.Client, o.Controllers, o.ID = c, cs, name
	o.Registry = prometheus.NewRegistry()
	e, err := New(o)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		f.etcd.Heal(name)
		f.etcd.Delay(name, 0)
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
		if err := c.Close(); err != nil {
			f.Error(err)
		}
	})
	f.Cleanup(stop)
	return e, stop
}

// leader starts an engine and waits until it has nothing to do.
func (f farm) leader(cs ...controllers.Controller) *Engine {
	f.Helper()
	e, _ := f.engine("leader", Options{}, cs...)
	f.settle()
	if _, ok := e.Leading(); !ok {
		f.Fatal("the only engine does not lead")
	}
	return e
}

// settle lets everything that is due in this instant happen.
func (f farm) settle() { synctest.Wait() }

func (f farm) member(cluster, value string) int64 {
	return f.etcd.Put(layout.ClusterDoc(cluster, "members/"+cluster+"-1"), value)
}

func (f farm) expect(key, want string) {
	f.Helper()
	if got, _, _ := f.etcd.Get(key); got != want {
		f.Errorf("%s is %q, expected %q", key, got, want)
	}
}

func planOf(cluster, concern string) string { return layout.PlanKey("n1", cluster, concern) }

// result is how often a controller's step ended that way.
func result(e *Engine, controller, result string) int {
	return int(testutil.ToFloat64(e.metrics.reconciles.WithLabelValues(controller, result)))
}

func clusters(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("pg-%02d", i))
	}
	return slices.Clip(out)
}

const patience = time.Minute
