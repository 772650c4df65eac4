package certificate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/certificate"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/pgbouncer"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/controllers/status"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const cluster = "pg-test"

var (
	l     = keys.Default
	nodes = []string{"pg1", "pg2", "pg3"}
	both  = []controllers.Controller{postgres.New(), pgbouncer.New()}
)

// world is a cluster and what time it is.
type world struct {
	*kv.Map
	t   testing.TB
	now time.Time
}

func newWorld(t testing.TB, tls string) *world {
	w := &world{controllertest.Load(t, "../postgres/testdata/small.txtar"), t, controllertest.Now}
	controllertest.Settle(t, postgres.New(), w.Map, cluster)
	controllertest.Put(w.Map, l.Leader(cluster), "pg-test-1")
	controllertest.Put(w.Map, l.Scope(cluster)+"initialize", "7300000000000000001")
	controllertest.Put(w.Map, l.Secret(cluster, "pooler"), "hush")
	w.set(tls)
	w.settle()
	return w
}

func (w *world) set(doc string) {
	controllertest.Put(w.Map, l.ClusterDoc(cluster, "postgres"), doc)
}

func (w *world) plan(c controllers.Controller) controllers.Result {
	w.t.Helper()
	r, err := c.Plan(controllers.Input{Cluster: cluster, Layout: l, Now: w.now, Snapshot: w.Map})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// step asks both controllers once, and reports whether anything was written.
func (w *world) step() bool {
	changed := false
	for _, c := range both {
		changed = controllertest.Apply(w.Map, w.plan(c)) || changed
	}
	return changed
}

// settle lets every agent have its plans in force until nothing changes.
func (w *world) settle() {
	w.t.Helper()
	for range 50 {
		changed := w.step()
		for _, n := range nodes {
			changed = w.answer(n, "postgres") || changed
			changed = w.answer(n, "pgbouncer") || changed
		}
		if !changed {
			return
		}
	}
	w.t.Fatal("it never settles")
}

func (w *world) answer(node, concern string) bool {
	e, ok := w.Get(l.PlanKey(node, cluster, concern))
	key := l.ObservedKey(node, cluster, concern)
	if !ok {
		return false
	}
	report := string(observed.Encode(observed.Report{Schema: 1, Concern: concern, Plan: e.ModRevision, Loaded: "x",
		Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True}}}))
	if old, ok := w.Get(key); ok && string(old.Value) == report {
		return false
	}
	controllertest.Put(w.Map, key, report)
	return true
}

// unanswered reports whether a node has not said of a plan that it is in force.
func (w *world) unanswered() bool {
	for _, n := range nodes {
		for _, concern := range []string{"postgres", "pgbouncer"} {
			e, _ := w.Get(l.PlanKey(n, cluster, concern))
			r, ok := observed.Read[observed.Report](w, l.ObservedKey(n, cluster, concern))
			if !ok || !r.Done(e.ModRevision) {
				return true
			}
		}
	}
	return false
}

// certificates are the secrets with servers' certificates that exist.
func (w *world) certificates() []string {
	var out []string
	for _, e := range w.Range(l.TLSSecrets(cluster)) {
		if name := strings.TrimPrefix(e.Key, l.ClusterSecrets(cluster)); name != keys.TLSAuthority {
			out = append(out, name)
		}
	}
	return out
}

// named are those in the plans of a node.
func (w *world) named(node string) (out []string) {
	for _, concern := range []string{"postgres", "pgbouncer"} {
		e, ok := w.Get(l.PlanKey(node, cluster, concern))
		p, err := plan.Decode(e.Value)
		if !ok || err != nil {
			w.t.Fatalf("node %s has no plan of %s: %v", node, concern, err)
		}
		name := ""
		for s := range p.Secrets {
			if strings.HasPrefix(s, "tls/") && s != keys.TLSAuthority {
				name = s
			}
		}
		out = append(out, name)
	}
	return out
}

// TestRenewals: another address, another name and time make another certificate, plans move
// to it node by node, and the older one goes when nobody has it; nothing else makes one.
func TestRenewals(t *testing.T) {
	w := newWorld(t, "tls: allow\n")
	first := w.certificates()
	if len(first) != 1 {
		t.Fatalf("certificates %v", first)
	}
	for name, change := range map[string]func(){
		"an address":        func() { controllertest.Put(w.Map, l.Node("pg2"), "address: 10.10.10.99") },
		"a virtual address": func() { controllertest.Put(w.Map, l.ClusterDoc(cluster, "vip"), "address: 10.10.10.8/24") },
		"a name":            func() { w.set("tls: allow\ntls_names: [db.example.org]\n") },
		"time":              func() { w.now = w.now.Add(91 * 24 * time.Hour) },
	} {
		before := w.certificates()
		change()
		for i := 0; ; i++ {
			w.step()
			w.step() // before anybody has answered
			all := w.certificates()
			for _, n := range nodes {
				for _, s := range w.named(n) {
					if !slices.Contains(all, s) {
						t.Fatalf("%s: node %s is to have %q, and there is %v", name, n, s, all)
					}
				}
			}
			moved := !slices.ContainsFunc(nodes, func(n string) bool { return slices.Contains(w.named(n), before[0]) })
			if (!moved || w.unanswered()) && !slices.Contains(all, before[0]) {
				t.Fatalf("%s: %s went while a node has it", name, before[0])
			}
			if moved && !w.unanswered() || i > 100 {
				break
			}
			// One agent and one concern at a time.
			_ = w.answer(nodes[i%3], "postgres") || w.answer(nodes[i%3], "pgbouncer")
		}
		w.settle()
		after := w.certificates()
		if len(after) != 1 || after[0] == before[0] {
			t.Errorf("%s: certificates are %v, were %v", name, after, before)
		}
		for _, n := range nodes {
			if got := w.named(n); got[0] != after[0] || got[1] != after[0] {
				t.Errorf("%s: node %s has %v, want %v", name, n, got, after)
			}
		}
	}
	quiet := w.certificates()
	w.set("tls: require\ntls_names: [db.example.org]\nparameters: {work_mem: 8MB}\n")
	w.settle()
	if got := w.certificates(); !slices.Equal(got, quiet) {
		t.Errorf("a change of something else made another certificate: %v, was %v", got, quiet)
	}
	if w.step() {
		t.Error("it is not quiet")
	}
}

// TestOffAndOn: off takes certificates from every host, and keeps the authority, which
// clients trust; nothing of plans is otherwise than at the start.
func TestOffAndOn(t *testing.T) {
	w := newWorld(t, "{}")
	read := func() (out []string) {
		for _, n := range nodes {
			for _, concern := range []string{"postgres", "pgbouncer"} {
				e, _ := w.Get(l.PlanKey(n, cluster, concern))
				p, err := plan.Decode(e.Value)
				if err != nil {
					t.Fatal(err)
				}
				p.Inputs = plan.Inputs{}
				out = append(out, string(plan.Encode(p)))
			}
		}
		return out
	}
	start := read()
	w.set("tls: require\n")
	w.settle()
	authority, _ := w.Get(l.AuthorityKey(cluster))
	w.set("tls: off\n")
	w.settle()
	if got := read(); !slices.Equal(got, start) {
		t.Errorf("after off plans are\n%s\nwere\n%s", got, start)
	}
	if left := w.certificates(); len(left) > 0 {
		t.Errorf("certificates are left: %v", left)
	}
	if again, _ := w.Get(l.AuthorityKey(cluster)); again.ModRevision != authority.ModRevision || authority.ModRevision == 0 {
		t.Error("the authority did not stay")
	}
}

// TestAuthorityLost: nobody would trust another one, so none is made while a plan has what
// the lost one signed; when nobody uses it any more everything begins anew.
func TestAuthorityLost(t *testing.T) {
	w := newWorld(t, "tls: allow\n")
	before := w.certificates()
	controllertest.Delete(w.Map, l.AuthorityKey(cluster))
	w.now = w.now.Add(91 * 24 * time.Hour)
	w.settle()
	if got := w.certificates(); !slices.Equal(got, before) {
		t.Errorf("certificates are %v, were %v", got, before)
	}
	r := w.plan(postgres.New())
	if !slices.ContainsFunc(r.Conditions, func(c observed.Condition) bool {
		return c.Reason == observed.RecordLost && c.Key == l.AuthorityKey(cluster) && c.Next != ""
	}) {
		t.Errorf("nobody says so: %v", r.Conditions)
	}
	w.set("tls: require\n") // and everything else goes on
	w.settle()
	if e, _ := w.Get(l.PlanKey("pg3", cluster, "pgbouncer")); !strings.Contains(string(e.Value), "client_tls_sslmode = require") {
		t.Error("a change waits for a certificate that will not come")
	}
	public, _ := w.Get(l.Secret(cluster, keys.TLSAuthority))
	w.set("tls: off\n")
	w.settle()
	w.set("tls: allow\n")
	w.settle()
	if _, ok := w.Get(l.AuthorityKey(cluster)); !ok || len(w.certificates()) != 1 {
		t.Error("it does not begin anew")
	}
	if again, _ := w.Get(l.Secret(cluster, keys.TLSAuthority)); again.ModRevision == public.ModRevision {
		t.Error("clients would be given the certificate of the lost authority")
	}
}

// TestOlderAgents: while one of them would not know what to do with a certificate nothing
// is planned.
func TestOlderAgents(t *testing.T) {
	w := newWorld(t, "{}")
	e, _ := w.Get(l.AliveKey("pg3"))
	controllertest.Put(w.Map, e.Key, strings.Replace(string(e.Value), `"plan_schema":4`, `"plan_schema":2`, 1))
	w.set("tls: allow\n")
	for _, c := range both {
		r := w.plan(c)
		if !slices.ContainsFunc(r.Conditions, func(c observed.Condition) bool { return c.Reason == observed.UnsupportedSchema }) ||
			slices.ContainsFunc(r.Outputs, func(o controllers.Output) bool { return strings.HasPrefix(o.Key, l.Prefix(keys.Plan)) }) {
			t.Errorf("%s: %v, %v", c.Name(), r.Outputs, r.Conditions)
		}
	}
}

// TestByPath: nothing is made, and files of others are in no plan.
func TestByPath(t *testing.T) {
	w := newWorld(t, "tls: require\ntls_certificate: /etc/ssl/db.crt\ntls_key: /etc/ssl/db.key\n")
	if _, made := w.Get(l.AuthorityKey(cluster)); made || len(w.certificates()) > 0 {
		t.Error("a certificate was made")
	}
	for concern, want := range map[string][]string{
		"postgres":  {`ssl_cert_file: "/etc/ssl/db.crt"`, `ssl_key_file: "/etc/ssl/db.key"`},
		"pgbouncer": {"client_tls_sslmode = require", "client_tls_cert_file = /etc/ssl/db.crt", "client_tls_key_file = /etc/ssl/db.key"},
	} {
		e, _ := w.Get(l.PlanKey("pg1", cluster, concern))
		p, err := plan.Decode(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		files := p.Resources[0].(plan.Unit).Files
		for _, line := range want {
			if !strings.Contains(files[0].Content, line+"\n") {
				t.Errorf("%s: %q is not in\n%s", concern, line, files[0].Content)
			}
		}
		if slices.ContainsFunc(files, func(f plan.File) bool { return strings.HasPrefix(f.Path, "/etc/ssl") }) || strings.Contains(files[0].Content, "ssl_ca_file") {
			t.Errorf("%s: %v", concern, files)
		}
	}
}

// TestPeriods: a fleet's clusters renew on different days, each once in a period.
func TestPeriods(t *testing.T) {
	days := map[int64]int{}
	for i := range 100 {
		top := &topology.Topology{Formed: &observed.Formed{UID: strings.Repeat("x", i)}}
		top.Docs = newDocs(t)
		in := controllers.Input{Cluster: cluster, Layout: l, Now: controllertest.Now, Snapshot: kv.NewMap()}
		left := certificate.Renews(in, top)
		if left <= 0 || left > 90*24*time.Hour {
			t.Fatalf("renewed in %s", left)
		}
		days[int64(left/(24*time.Hour))]++
		before := certificate.Wanted(in, top)
		in.Now = in.Now.Add(left - time.Second)
		same := certificate.Wanted(in, top)
		in.Now = in.Now.Add(time.Second)
		if before != same || before == certificate.Wanted(in, top) {
			t.Errorf("it does not change at its end alone")
		}
	}
	if len(days) < 40 {
		t.Errorf("100 clusters renew on %d days", len(days))
	}
}

func newDocs(t testing.TB) *desired.Cluster {
	t.Helper()
	return desired.Load(kv.NewMap(kv.KV{Key: l.ClusterDoc(cluster, "postgres"), Value: []byte("tls: allow"), ModRevision: 1}), l, cluster, "postgres")
}

// TestForget: nothing of a cluster that is gone is left to sign or to show.
func TestForget(t *testing.T) {
	w := newWorld(t, "tls: allow\n")
	out := certificate.Forget(controllers.Input{Cluster: cluster, Layout: l, Now: w.now, Snapshot: w.Map})
	controllertest.Apply(w.Map, controllers.Result{Outputs: out})
	if left := w.Range(l.TLSSecrets(cluster)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, ok := w.Get(l.AuthorityKey(cluster)); ok {
		t.Error("the authority is left")
	}
}

// TestStatusNeedsNoSecrets: who may not read any computes what the server would plan, also
// once all plans are in force and what is left over is looked for. It was refused that.
func TestStatusNeedsNoSecrets(t *testing.T) {
	for _, doc := range []string{"{}", "tls: allow\n"} {
		w := newWorld(t, doc)
		controllertest.Run(t, status.New(both...), w.Map, cluster)
		w.now = w.now.Add(91 * 24 * time.Hour)
		w.settle()
		controllertest.Run(t, status.New(both...), w.Map, cluster)
	}
}
