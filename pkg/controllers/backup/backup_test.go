package backup

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	docs  = "/pgctrl/desired/clusters/pg-test/"
	store = "repository: s3\ns3: {endpoint: \"s3.example.org:9000\", bucket: pg-backups}\n"
)

var nodes = []string{"pg1", "pg2", "pg3"}

// installed is a node's presence with pgBackRest or without.
func installed(m *kv.Map, node, version string) {
	controllertest.Put(m, keys.Default.AliveKey(node), string(observed.Encode(observed.Alive{
		Schema: 1, PlanSchema: plan.Schema, Node: node, Programs: map[string]string{"patroni": "3.0.2", "pgbackrest": version}, PostgreSQL: []int{15},
	})))
}

// formed is a cluster of three members that has formed, whose nodes have pgBackRest.
func formed(t testing.TB) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	for _, n := range nodes {
		installed(m, n, "2.45")
	}
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	return m
}

func planOf(t testing.TB, m *kv.Map, node, concern string) (plan.Plan, bool) {
	t.Helper()
	e, ok := m.Get(keys.Default.PlanKey(node, "pg-test", concern))
	if !ok {
		return plan.Plan{}, false
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	return p, true
}

// fileOf is the content of a node's file; the uid, which is another each time, is UID.
func fileOf(t testing.TB, m *kv.Map, node string) string {
	t.Helper()
	p, ok := planOf(t, m, node, Concern)
	if !ok || len(p.Resources) != 1 {
		t.Fatalf("node %s has no plan with a file: %+v", node, p)
	}
	return strings.ReplaceAll(p.Resources[0].(plan.Watched).Content, "pg-test-"+p.UID[:8], "pg-test-UID")
}

func reasons(r controllers.Result) string {
	var out []string
	for _, c := range r.Conditions {
		out = append(out, string(c.Reason)+" "+c.Key)
	}
	return strings.Join(out, "\n")
}

func TestGolden(t *testing.T) {
	for name, c := range map[string]struct{ doc, secrets string }{
		"local": {doc: "{}"},
		"s3":    {store, "backup-s3-key backup-s3-secret"},
		"rich": {`repository: s3
s3: {endpoint: "minio:9000", bucket: pg-backups, region: eu-1, uri_style: host, ca_file: /etc/ssl/minio/ca.crt, verify_tls: false}
path: /pg
cipher: none
compress: lz4
process_max: 8
retention: {full: 7, differential: 3}
archive_queue_max: 64GB`, "backup-s3-key backup-s3-secret"},
		"encrypted": {doc: "path: /backup/pgbackrest\ncipher: aes-256-cbc\ncompress: gz"},
	} {
		t.Run(name, func(t *testing.T) {
			m := formed(t)
			controllertest.Put(m, docs+"backup", c.doc)
			for _, s := range strings.Fields(c.secrets) {
				controllertest.Put(m, keys.Default.Secret("pg-test", s), "hush")
			}
			if r := controllertest.Settle(t, New(), m, "pg-test"); len(r.Conditions) > 0 {
				t.Errorf("conditions %v", r.Conditions)
			}
			controllertest.Deterministic(t, New(), m, "pg-test")
			controllertest.Golden(t, "testdata/"+name+".conf", []byte(fileOf(t, m, "pg2")))
			p, _ := planOf(t, m, "pg2", Concern)
			for _, s := range plan.SecretNames(p.Resources) {
				if p.Secrets[s] == 0 {
					t.Errorf("the plan does not say of which revision %s is", s)
				}
			}
			if w := p.Resources[0].(plan.Watched); p.Schema != plan.SchemaFiles || w.Mode != "0640" || w.Owner != "root:postgres" || w.File != plan.BackupConfig("pg-test") {
				t.Errorf("schema %d, file %+v", p.Schema, w)
			}
		})
	}
}

// TestAnotherClusterOfTheName: a later one has another folder in the repository and in the
// spool, where an answer about an earlier one's segment would pass for its own.
func TestAnotherClusterOfTheName(t *testing.T) {
	places := func(uid string) (out []string) {
		m := formed(t)
		key := keys.Default.FormedKey("pg-test")
		f, _ := observed.Read[observed.Formed](m, key)
		f.UID = uid
		controllertest.Put(m, key, string(observed.Encode(f)))
		controllertest.Settle(t, New(), m, "pg-test")
		p, _ := planOf(t, m, "pg1", Concern)
		for line := range strings.Lines(p.Resources[0].(plan.Watched).Content) {
			if strings.HasPrefix(line, "repo1-path=") || strings.HasPrefix(line, "spool-path=") {
				out = append(out, line)
			}
		}
		return out
	}
	one, other := places("11111111-a"), places("22222222-a")
	if len(one) != 2 || one[0] == other[0] || one[1] == other[1] {
		t.Errorf("two clusters have %q and %q", one, other)
	}
}

func TestFailoverChangesNoPlan(t *testing.T) {
	m := formed(t)
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-2")
	if controllertest.Apply(m, controllertest.Run(t, New(), m, "pg-test")) {
		t.Error("a failover changed a plan")
	}
}

func TestR4BadDocumentChangesNothing(t *testing.T) {
	for _, bad := range []struct{ key, value string }{
		{docs + "backup", "repository: s3"},
		{docs + "backup", "schedules: {full: daily}"},
		{docs + "postgres", "parameters: {archive_mode: off}"},
		{docs + "members/pg-test-3", "node: ["},
	} {
		m := formed(t)
		controllertest.Settle(t, New(), m, "pg-test")
		controllertest.Put(m, bad.key, bad.value)
		if r := controllertest.Run(t, New(), m, "pg-test"); len(r.Outputs) != 0 || len(r.Conditions) == 0 {
			t.Errorf("%s: %q gave %d outputs, conditions %v", bad.key, bad.value, len(r.Outputs), r.Conditions)
		}
	}
}

// TestWithoutTheProgram: the node has no plan, the others have theirs, and what is there
// stays when the program goes.
func TestWithoutTheProgram(t *testing.T) {
	m := formed(t)
	installed(m, "pg3", "")
	r := controllertest.Settle(t, New(), m, "pg-test")
	_, third := planOf(t, m, "pg3", Concern)
	if _, first := planOf(t, m, "pg1", Concern); !first || third || reasons(r) != "MissingProgram /pgctrl/plan/pg3/pg-test/backup" {
		t.Errorf("pg1 %v, pg3 %v, conditions %v", first, third, r.Conditions)
	}
	installed(m, "pg3", "2.45")
	if r := controllertest.Settle(t, New(), m, "pg-test"); len(r.Conditions) > 0 {
		t.Errorf("conditions %v", r.Conditions)
	}
	before, _ := planOf(t, m, "pg3", Concern)
	installed(m, "pg3", "")
	controllertest.Settle(t, New(), m, "pg-test")
	if after, ok := planOf(t, m, "pg3", Concern); !ok || string(plan.Encode(after)) != string(plan.Encode(before)) {
		t.Error("the plan is gone or another one")
	}
}

// TestSecrets: nothing is planned before every secret is there, and people are told which
// ones are theirs to set. A passphrase that backups were made with is never made anew.
func TestSecrets(t *testing.T) {
	m := formed(t)
	l := keys.Default
	controllertest.Put(m, docs+"backup", store)
	r := controllertest.Run(t, New(), m, "pg-test")
	if _, ok := planOf(t, m, "pg1", Concern); ok || len(r.Conditions) != 2 || len(r.Outputs) != 1 {
		t.Errorf("planned %v, conditions %v", ok, r.Conditions)
	}
	for _, c := range r.Conditions {
		if c.Reason != observed.WaitingForSecret || !strings.HasPrefix(c.Next, "pgctrl secret set pg-test backup-s3-") {
			t.Errorf("condition %+v", c)
		}
	}
	controllertest.Settle(t, New(), m, "pg-test")
	for _, s := range []string{"backup-s3-key", "backup-s3-secret"} {
		if _, ok := planOf(t, m, "pg1", Concern); ok {
			t.Errorf("planned without %s", s)
		}
		controllertest.Put(m, l.Secret("pg-test", s), "hush")
		controllertest.Settle(t, New(), m, "pg-test")
	}
	before := fileOf(t, m, "pg1")
	controllertest.Put(m, l.Secret("pg-test", "backup-s3-key"), "other") // rotated
	if r := controllertest.Run(t, New(), m, "pg-test"); !controllertest.Apply(m, r) || fileOf(t, m, "pg1") != before {
		t.Error("a rotation made no new plan, or another file")
	}

	controllertest.Delete(m, l.Secret("pg-test", "backup-passphrase"))
	r = controllertest.Run(t, New(), m, "pg-test")
	if len(r.Outputs) > 0 || reasons(r) != "RecordLost "+l.Secret("pg-test", "backup-passphrase") {
		t.Errorf("the passphrase is gone: %d outputs, conditions %v", len(r.Outputs), r.Conditions)
	}
}

// answer lets a node's agent have its newest plan in force, or everything gone.
func answer(t testing.TB, m *kv.Map, node, concern string) {
	t.Helper()
	e, ok := m.Get(keys.Default.PlanKey(node, "pg-test", concern))
	if !ok {
		return
	}
	applied := observed.Condition{Type: observed.Applied, Status: observed.True}
	if p, _ := planOf(t, m, node, concern); p.Removal != nil {
		applied.Reason = observed.Removed
	}
	controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", concern), string(observed.Encode(observed.Report{
		Schema: 1, Concern: concern, Plan: e.ModRevision, Loaded: "x", Conditions: []observed.Condition{applied},
	})))
}

// TestSwitchedOff: the file goes after Patroni's configuration names the command no more;
// the repository and its secrets stay.
func TestSwitchedOff(t *testing.T) {
	m := formed(t)
	controllertest.Settle(t, New(), m, "pg-test")
	config := func(command string) {
		controllertest.Put(m, "/pg/pg-test/config", `{"postgresql":{"parameters":{"archive_command":"`+strings.ReplaceAll(command, `"`, `\"`)+`"}}}`)
	}
	config(plan.ArchiveCommand("pg-test"))
	controllertest.Put(m, docs+"backup", "enabled: false")
	r := controllertest.Settle(t, New(), m, "pg-test")
	if p, ok := planOf(t, m, "pg1", Concern); !ok || p.Removal != nil || !strings.Contains(r.Conditions[0].Message, "still archives") {
		t.Fatalf("while PostgreSQL archives: %+v, %v", p.Removal, r.Conditions)
	}
	config("/bin/true")
	r = controllertest.Settle(t, New(), m, "pg-test")
	if len(r.Conditions) != 1 || !strings.Contains(r.Conditions[0].Message, "/var/lib/pgbackrest/pg-test-") {
		t.Errorf("conditions %v", r.Conditions)
	}
	for _, n := range nodes {
		if p, ok := planOf(t, m, n, Concern); !ok || p.Removal == nil {
			t.Errorf("%s keeps its file", n)
		}
		answer(t, m, n, Concern)
	}
	r = controllertest.Settle(t, New(), m, "pg-test")
	if _, ok := planOf(t, m, "pg1", Concern); ok || len(r.Conditions) > 0 {
		t.Errorf("done, and the plan is there (%v), conditions %v", ok, r.Conditions)
	}
	controllertest.Put(m, docs+"backup", "{}")
	controllertest.Settle(t, New(), m, "pg-test")
	fileOf(t, m, "pg1")
}

// TestRemoval: a member's file goes when its PostgreSQL has stopped, and so do all of a
// cluster that goes.
func TestRemoval(t *testing.T) {
	m := formed(t)
	controllertest.Settle(t, New(), m, "pg-test")
	removed := func(node string) bool {
		p, ok := planOf(t, m, node, Concern)
		return ok && p.Removal != nil
	}
	controllertest.Put(m, docs+"members/pg-test-3", "node: pg3\nstate: absent")
	controllertest.Settle(t, New(), m, "pg-test")
	if removed("pg3") {
		t.Error("the file goes before PostgreSQL")
	}
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	answer(t, m, "pg3", "postgres")
	controllertest.Settle(t, New(), m, "pg-test")
	if !removed("pg3") || removed("pg1") {
		t.Error("the member has stopped and keeps its file, or another one loses it")
	}
	answer(t, m, "pg3", Concern)
	controllertest.Settle(t, New(), m, "pg-test")
	if _, ok := planOf(t, m, "pg3", Concern); ok {
		t.Error("what is done is not deleted")
	}

	controllertest.Put(m, docs+"postgres", "state: absent\nconfirm: pg-test")
	for range 6 {
		controllertest.Settle(t, postgres.New(), m, "pg-test")
		r := controllertest.Settle(t, New(), m, "pg-test")
		for _, n := range nodes {
			if p, ok := planOf(t, m, n, "postgres"); ok && p.Removal == nil && removed(n) {
				t.Errorf("%s loses its file before PostgreSQL", n)
			}
			answer(t, m, n, "postgres")
			answer(t, m, n, Concern)
		}
		if _, ok := planOf(t, m, "pg1", Concern); ok && (len(r.Conditions) == 0 || !strings.Contains(r.Conditions[0].Message, "are kept")) {
			t.Errorf("conditions %v", r.Conditions)
		}
	}
	for _, n := range nodes {
		if _, ok := planOf(t, m, n, Concern); ok {
			t.Errorf("%s keeps its plan", n)
		}
	}
}

// TestOlderAgents are not sent what they would refuse.
func TestOlderAgents(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, keys.Default.AliveKey("pg2"), `{"schema":1,"plan_schema":3,"node":"pg2","programs":{"pgbackrest":"2.45"}}`)
	r := controllertest.Settle(t, New(), m, "pg-test")
	if _, ok := planOf(t, m, "pg2", Concern); ok || reasons(r) != "UnsupportedSchema /pgctrl/alive/pg2" {
		t.Errorf("planned %v, conditions %v", ok, r.Conditions)
	}
}
