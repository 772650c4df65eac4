package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

const (
	system      = "7300000000000000001"
	secretValue = "s3cr3t-value-that-is-nowhere"
)

var layout = keys.Default

// world is an etcd, and agents on hosts pg1, pg2, ... each with one member of
// cluster "c" named m1, m2, ...
type world struct {
	t      *testing.T
	etcd   *model.Server
	agents map[string]*running
	logs   *syncBuffer
	// slowPlans is how long etcd takes to list a node's plans.
	slowPlans time.Duration
	// slowScope is how long it takes to list Patroni's keys, failResults how often a result
	// can't be read.
	slowScope   time.Duration
	failResults atomic.Int32
}

// client is a node's way to etcd.
func (w *world) client(name string) *store.Client {
	p := w.etcd.Connect(name)
	return store.New(slowKV{p.KV, w}, p.Watcher, p.Lease, nil)
}

// slowKV takes its time to list plans, as an etcd does that is asked for many.
type slowKV struct {
	clientv3.KV
	w *world
}

func (k slowKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if strings.HasPrefix(key, layout.Prefix(keys.Plan)) && k.w.slowPlans > 0 {
		time.Sleep(k.w.slowPlans)
	}
	if strings.HasPrefix(key, layout.Scope("c")) && k.w.slowScope > 0 {
		time.Sleep(k.w.slowScope)
	}
	if strings.HasPrefix(key, layout.Prefix(keys.Results)) && k.w.failResults.Add(-1) >= 0 {
		return nil, errors.New("etcd did not answer in time")
	}
	return k.KV.Get(ctx, key, opts...)
}

type running struct {
	*agent.Agent
	host *agenttest.Host
	dir  string
	stop func()

	registry *prometheus.Registry
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// simulate runs a story in a bubble with fake time.
func simulate(t *testing.T, story func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, etcd: model.New(), agents: map[string]*running{}, logs: &syncBuffer{}}
		w.etcd.Put(layout.StoreKey(), `{"incarnation":"S1"}`)
		w.etcd.Put(layout.Scope("c")+"initialize", system)
		w.etcd.Put(layout.Scope("c")+"config", `{"ttl":30}`)
		for i := 1; i <= 3; i++ {
			w.member(i, "running")
			w.etcd.Put(layout.PlanKey(node(i), "c", "haproxy"), string(plan.Encode(haproxyPlan(i))))
		}
		story(t, w)
		for _, r := range w.agents {
			r.stop()
		}
	})
}

// nobody is an etcd that can't be reached.
func (w *world) nobody(context.Context) (*store.Client, error) {
	return nil, errors.New("no route to host")
}

func node(i int) string   { return fmt.Sprintf("pg%d", i) }
func member(i int) string { return fmt.Sprintf("m%d", i) }

func (w *world) member(i int, state string) {
	w.etcd.Put(layout.Members("c")+member(i), fmt.Sprintf(
		`{"state":%q,"role":"replica","version":"3.0.2","api_url":"http://10.0.0.%d:8008/patroni"}`, state, i))
}

func (w *world) leader(i int) int64 { return w.etcd.Put(layout.Leader("c"), member(i)) }

// start runs the agent of host i; dir survives a restart when given.
func (w *world) start(i int, dir string) *running {
	w.t.Helper()
	return w.startOn(i, dir, agenttest.New("machine"+node(i)))
}

func (w *world) startOn(i int, dir string, h *agenttest.Host) *running {
	w.t.Helper()
	if dir == "" {
		dir = w.t.TempDir()
	}
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(w.logs), zap.DebugLevel)
	registry := prometheus.NewRegistry()
	a, err := agent.New(agent.Options{
		Node: node(i), Address: func() string { return fmt.Sprintf("10.0.0.%d", i) }, Version: "test", StateDir: dir, Host: h.Wire(), Log: zap.New(core),
		FreezeFile: filepath.Join(dir, "freeze"), OverrideFile: filepath.Join(dir, "overrides.json"), Registry: registry,
		Connect: func(context.Context) (*store.Client, error) { return w.client(node(i)), nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }()
	r := &running{Agent: a, host: h, dir: dir, registry: registry}
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	w.agents[node(i)] = r
	synctest.Wait()
	return r
}

func info(i int) plan.Cluster {
	c := plan.Cluster{Name: "c", Member: member(i)}
	for j := 1; j <= 3; j++ {
		c.Members = append(c.Members, plan.Member{Name: member(j), Node: node(j), Address: fmt.Sprintf("10.0.0.%d", j), Port: 5432, RESTPort: 8008})
	}
	return c
}

func haproxyPlan(i int) plan.Plan {
	var servers []plan.RouteServer
	for _, m := range info(i).Members {
		servers = append(servers, plan.RouteServer{Name: m.Name, Address: m.Address, Port: m.Port, CheckPort: m.RESTPort})
	}
	return plan.Plan{
		Schema: plan.Schema, Writer: "test", Store: "S1", UID: "U1", Cluster: info(i),
		Resources: plan.Resources{plan.Unit{
			Unit: "haproxy@c.service", Program: "haproxy",
			Files: []plan.File{{Path: "/etc/haproxy/c.cfg", Mode: "0640", Content: "global"}},
			Routes: map[string]plan.Route{
				"primary": {Role: plan.RoutePrimary, Servers: servers},
				"replica": {Role: plan.RouteReplica, Servers: servers},
			},
		}},
	}
}

func postgresPlan(i int, secretRev int64) plan.Plan {
	p := haproxyPlan(i)
	p.Secrets = map[string]int64{"postgres": secretRev}
	p.Resources = plan.Resources{
		plan.Unit{Unit: "patroni@c.service", Program: "patroni", Files: []plan.File{{
			Path: "/etc/patroni/c.yml", Mode: "0640", Content: "password: " + plan.SecretRef("postgres", plan.FormatYAML)}}},
		plan.Patroni{Patroni: "c", Config: map[string]any{"ttl": 30}},
	}
	return p
}

func writable(tl int64) agent.PostgresState {
	return agent.PostgresState{Reachable: true, System: system, Timeline: tl}
}

func recovering() agent.PostgresState {
	return agent.PostgresState{Reachable: true, InRecovery: true, System: system, Timeline: 1}
}

func streaming() agent.PostgresState {
	s := recovering()
	s.Streaming = true
	return s
}

// held renders a backend as "m1=up m2=down m3=down".
func held(r *running, backend string) string {
	var out []string
	ts := r.host.Targets(backend)
	for i := 1; i <= 3; i++ {
		stay := ""
		if ts[member(i)].Stay {
			stay = "/stay"
		}
		out = append(out, member(i)+"="+ts[member(i)].Held.String()+stay)
	}
	return strings.Join(out, " ")
}

func (w *world) primary() (observed.Primary, int64) {
	v, rev, ok := w.etcd.Get(layout.PrimaryKey("c"))
	if !ok {
		return observed.Primary{}, 0
	}
	var p observed.Primary
	if err := json.Unmarshal([]byte(v), &p); err != nil {
		w.t.Fatal(err)
	}
	return p, rev
}

func (w *world) report(i int, concern string) observed.Report {
	w.t.Helper()
	v, _, ok := w.etcd.Get(layout.ObservedKey(node(i), "c", concern))
	if !ok {
		w.t.Fatalf("no report of %s on %s", concern, node(i))
	}
	var r observed.Report
	if err := json.Unmarshal([]byte(v), &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func after(d time.Duration) {
	time.Sleep(d) // fake time: a bubble
	synctest.Wait()
}

func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// settle brings up three agents with m1 leading and confirmed.
func settle(t *testing.T, w *world) (a1, a2, a3 *running) {
	t.Helper()
	epoch := w.leader(1)
	a1, a2, a3 = w.start(1, ""), w.start(2, ""), w.start(3, "")
	a1.host.SetPostgres(writable(1))
	a2.host.SetPostgres(recovering())
	a3.host.SetPostgres(recovering())
	after(900 * time.Millisecond)
	p, _ := w.primary()
	expect(t, "primary", p.Member, "m1")
	expect(t, "epoch", p.Epoch, epoch)
	expect(t, "by", p.By, "pg1")
	for _, a := range []*running{a1, a2, a3} {
		expect(t, "primary backend", held(a, "primary"), "m1=up m2=down m3=down")
		expect(t, "replica backend", held(a, "replica"), "m1=down m2=leave m3=leave")
	}
	return a1, a2, a3
}

func kvOf(value []byte) kv.KV { return kv.KV{Value: value} }
