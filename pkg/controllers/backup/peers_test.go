package backup

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// certificates are the secrets by which members know one another, by name.
func certificates(m *kv.Map) (out []string) {
	for _, e := range m.Range(keys.Default.BackupTLSSecrets("pg-test")) {
		out = append(out, strings.TrimPrefix(e.Key, keys.Default.ClusterSecrets("pg-test")))
	}
	return out
}

// serverOf is the server in a node's plan, and the certificate that it is to show.
func serverOf(t testing.TB, m *kv.Map, node string) (u plan.Unit, shows string, there bool) {
	t.Helper()
	p, ok := planOf(t, m, node, Concern)
	if !ok {
		return u, "", false
	}
	for _, r := range p.Resources {
		u, there = r.(plan.Unit)
	}
	for name, rev := range p.Secrets {
		if isPeer(name) {
			shows = name
			if rev == 0 {
				t.Errorf("%s: the plan does not say of which revision %s is", node, name)
			}
		}
	}
	return u, shows, there
}

// settled lets every agent answer until nothing changes.
func settled(t testing.TB, m *kv.Map) {
	t.Helper()
	for range 5 {
		controllertest.Settle(t, New(), m, "pg-test")
		for _, n := range nodes {
			answer(t, m, n, Concern)
		}
	}
	if controllertest.Apply(m, controllertest.Run(t, New(), m, "pg-test")) {
		t.Fatal("it is not quiet")
	}
}

// TestFromAReplica: every member's node has a server and the one certificate; who leads changes
// nothing, and without the field everything of it goes.
func TestFromAReplica(t *testing.T) {
	m := formed(t)
	settled(t, m)
	plain, _ := planOf(t, m, "pg2", Concern)
	if _, _, there := serverOf(t, m, "pg2"); there || len(certificates(m)) > 0 {
		t.Fatal("there is a server without need")
	}
	controllertest.Put(m, docs+"backup", "from: replica\n")
	r := controllertest.Run(t, New(), m, "pg-test")
	if _, ok := planOf(t, m, "pg2", Concern); !ok || len(r.Conditions) > 0 {
		t.Errorf("backups wait for a certificate: %v", r.Conditions)
	}
	settled(t, m)
	controllertest.Deterministic(t, New(), m, "pg-test")
	for _, n := range nodes {
		u, shows, there := serverOf(t, m, n)
		if !there || u.Absent || u.Unit != "pgbackrest-server@pg-test.service" || u.Program != plan.BackupServer || !slices.Equal(certificates(m), []string{shows}) {
			t.Fatalf("%s: %+v shows %q of %v", n, u, shows, certificates(m))
		}
		if f := u.Files[1]; f.Mode != "0640" || f.Owner != "root:postgres" || !strings.Contains(f.Content, plan.SecretRef(shows, plan.FormatPEM)) {
			t.Errorf("%s: %+v", n, f)
		}
	}
	u, _, _ := serverOf(t, m, "pg2")
	controllertest.Golden(t, "testdata/server.golden", []byte(u.Files[0].Content))
	if p, _ := planOf(t, m, "pg2", Concern); p.Schema != plan.SchemaRestore {
		t.Errorf("schema %d, which older agents take", p.Schema)
	}
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-2")
	if controllertest.Apply(m, controllertest.Run(t, New(), m, "pg-test")) {
		t.Error("a failover changed a plan")
	}

	controllertest.Put(m, docs+"backup", "from: primary\n")
	controllertest.Settle(t, New(), m, "pg-test")
	if u, _, there := serverOf(t, m, "pg2"); !there || !u.Absent || len(certificates(m)) != 1 {
		t.Errorf("the host is not told that the server goes, or its certificate went before: %+v %v", u, certificates(m))
	}
	settled(t, m)
	if u, _, there := serverOf(t, m, "pg2"); !there || !u.Absent || len(certificates(m)) > 0 {
		t.Errorf("left: %+v %v", u, certificates(m))
	}
	if p, _ := planOf(t, m, "pg2", Concern); fileText(p) != fileText(plain) {
		t.Error("the file is not what it was")
	}
}

func fileText(p plan.Plan) string { return p.Resources[0].(plan.Watched).Content }

// TestPeersRenewed: another address and time make another certificate, which every node has
// before the former one goes.
func TestPeersRenewed(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"backup", "from: replica\n")
	settled(t, m)
	now := controllertest.Now
	run := func() controllers.Result {
		r, err := New().Plan(controllers.Input{Cluster: "pg-test", Layout: keys.Default, Now: now, Snapshot: m})
		if err != nil {
			t.Fatal(err)
		}
		controllertest.Apply(m, r)
		return r
	}
	if r := run(); r.After <= 0 || r.After > 90*24*time.Hour {
		t.Errorf("it asks to be called in %s", r.After)
	}
	for name, change := range map[string]func(){
		"address": func() { controllertest.Put(m, keys.Default.Node("pg2"), "address: 10.10.10.99") },
		"time":    func() { now = now.Add(91 * 24 * time.Hour) },
	} {
		before := certificates(m)
		change()
		run()
		run()
		for _, n := range nodes {
			if _, shows, _ := serverOf(t, m, n); shows == before[0] || !slices.Contains(certificates(m), shows) {
				t.Errorf("%s: %s shows %q, of %v", name, n, shows, certificates(m))
			}
		}
		if !slices.Contains(certificates(m), before[0]) {
			t.Errorf("%s: the former one went while hosts have it", name)
		}
		for _, n := range nodes {
			answer(t, m, n, Concern)
		}
		run()
		if after := certificates(m); len(after) != 1 || after[0] == before[0] {
			t.Errorf("%s: certificates %v, were %v", name, after, before)
		}
	}
}

// TestTakenPort: a port that is somebody else's leaves the server out and nothing else; it is said.
func TestTakenPort(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"services/reports", "role: replica\nport: 8432\n")
	controllertest.Put(m, docs+"backup", "from: replica\n")
	settled(t, m)
	r := controllertest.Run(t, New(), m, "pg-test")
	if len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.PortConflict || r.Conditions[0].Key != docs+"backup" || !r.Conditions[0].Bad() {
		t.Errorf("conditions %v", r.Conditions)
	}
	if fileOf(t, m, "pg2") == "" {
		t.Error("there is no file")
	}
	controllertest.Put(m, docs+"backup", "from: replica\nserver_port: 8532\n")
	settled(t, m)
	if _, _, there := serverOf(t, m, "pg2"); !there {
		t.Error("with another port there is no server")
	}
	controllertest.Put(m, docs+"backup", "from: replica\n")
	settled(t, m)
	if u, _, _ := serverOf(t, m, "pg2"); !u.Absent {
		t.Error("it stays on a port of its own's former time")
	}
}

// TestDelayedMemberServesNoBackup: one would wait for it to reach its own beginning.
func TestDelayedMemberServesNoBackup(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"backup", "from: replica\n")
	settled(t, m)
	controllertest.Put(m, docs+"members/pg-test-3", "node: pg3\ndelay: 1h\n")
	settled(t, m)
	if u, _, _ := serverOf(t, m, "pg3"); !u.Absent {
		t.Error("a delayed member has a server")
	}
	if u, _, _ := serverOf(t, m, "pg2"); u.Absent {
		t.Error("and the others have none")
	}
}

// TestRemovedWithItsCertificate: nothing of a cluster that is gone is left to show.
func TestRemovedWithItsCertificate(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"backup", "from: replica\n")
	settled(t, m)
	controllertest.Put(m, docs+"postgres", "state: absent\nconfirm: pg-test")
	for range 6 {
		controllertest.Settle(t, postgres.New(), m, "pg-test")
		controllertest.Settle(t, New(), m, "pg-test")
		for _, n := range nodes {
			if _, shows, there := serverOf(t, m, n); there && shows != "" && !slices.Contains(certificates(m), shows) {
				t.Errorf("%s: %q went before its plan", n, shows)
			}
			answer(t, m, n, "postgres")
			answer(t, m, n, Concern)
		}
	}
	if _, ok := planOf(t, m, "pg1", Concern); ok || len(certificates(m)) > 0 {
		t.Errorf("left: plan %v, %v", ok, certificates(m))
	}
}
