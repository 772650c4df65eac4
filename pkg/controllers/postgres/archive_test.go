package postgres

import (
	"fmt"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// installed is a node's presence with pgBackRest or without.
func installed(m *kv.Map, version string, nodes ...string) {
	for _, n := range nodes {
		controllertest.Put(m, keys.Default.AliveKey(n), fmt.Sprintf(
			`{"schema":1,"plan_schema":4,"node":%q,"programs":{"patroni":"3.0.2","pgbackrest":%q},"postgresql":[15]}`, n, version))
	}
}

// command and timeout are what PostgreSQL is told, as the plan of a node has it.
func archivingOf(t testing.TB, m *kv.Map, node string) (command, timeout any) {
	t.Helper()
	e, _ := m.Get(keys.Default.PlanKey(node, "pg-test", Concern))
	p, err := plan.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Resources {
		if c, is := r.(plan.Patroni); is {
			parameters := c.Config["postgresql"].(map[string]any)["parameters"].(map[string]any)
			return parameters["archive_command"], parameters["archive_timeout"]
		}
	}
	t.Fatalf("the plan of %s has no configuration", node)
	return nil, nil
}

// forming is a cluster of which nothing is planned yet, whose nodes have pgBackRest.
func forming(t testing.TB) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "testdata/small.txtar")
	installed(m, "2.45", "pg1", "pg2", "pg3")
	return m
}

func TestArchivesFromItsFirstPlanOn(t *testing.T) {
	m := forming(t)
	controllertest.Settle(t, New(), m, "pg-test")
	command, timeout := archivingOf(t, m, "pg1")
	if command != `pgbackrest --config=/etc/pgbackrest/conf.d/pg-test.conf --stanza=pg-test archive-push "%p"` || timeout != "60s" {
		t.Errorf("%v after %v", command, timeout)
	}
	controllertest.Put(m, keys.Default.ClusterDoc("pg-test", "postgres"), "parameters: {archive_timeout: 5min}")
	controllertest.Settle(t, New(), m, "pg-test")
	if _, timeout := archivingOf(t, m, "pg1"); timeout != "5min" {
		t.Errorf("a document's archive_timeout is %v", timeout)
	}
}

// TestArchivingBeginsWhenAllCan: with every present member's program and the credentials.
func TestArchivingBeginsWhenAllCan(t *testing.T) {
	m := forming(t)
	l := keys.Default
	archives := func(want bool, after string) {
		t.Helper()
		controllertest.Settle(t, New(), m, "pg-test")
		command, timeout := archivingOf(t, m, "pg1")
		if is := command == plan.ArchiveCommand("pg-test"); is != want || is != (timeout == "60s") || !is && command != "/bin/true" {
			t.Errorf("%s: %v after %v", after, command, timeout)
		}
	}
	installed(m, "", "pg3")
	archives(false, "a member without the program")
	controllertest.Put(m, l.ClusterDoc("pg-test", "backup"), "repository: s3\ns3: {endpoint: minio, bucket: pg-backups}")
	installed(m, "2.45", "pg3")
	archives(false, "a store without credentials")
	controllertest.Put(m, l.Secret("pg-test", keys.BackupS3Key), "k")
	archives(false, "one of two")
	controllertest.Put(m, l.Secret("pg-test", keys.BackupS3Secret), "s")
	controllertest.Delete(m, l.AliveKey("pg2"))
	archives(true, "all that are there can")
}

// TestArchivingEndsOnlyByADocument: an agent that is away, a program that is gone, a secret
// that was deleted and a document that can't be read do not end it.
func TestArchivingEndsOnlyByADocument(t *testing.T) {
	l := keys.Default
	doc := l.ClusterDoc("pg-test", "backup")
	for name, change := range map[string]func(m *kv.Map){
		"agents away": func(m *kv.Map) {
			controllertest.Delete(m, l.AliveKey("pg1"))
			controllertest.Delete(m, l.AliveKey("pg2"))
			controllertest.Delete(m, l.AliveKey("pg3"))
		},
		"no program":   func(m *kv.Map) { installed(m, "", "pg1", "pg2", "pg3") },
		"bad document": func(m *kv.Map) { controllertest.Put(m, doc, "enabled: no") },
		"no credentials": func(m *kv.Map) {
			controllertest.Put(m, doc, "repository: s3\ns3: {endpoint: minio, bucket: pg-backups}")
		},
	} {
		m := forming(t)
		controllertest.Put(m, doc, "{}")
		controllertest.Settle(t, New(), m, "pg-test")
		controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
		controllertest.Settle(t, New(), m, "pg-test")
		change(m)
		controllertest.Settle(t, New(), m, "pg-test")
		if command, _ := archivingOf(t, m, "pg1"); command != plan.ArchiveCommand("pg-test") {
			t.Errorf("%s: %v", name, command)
		}
		installed(m, "2.45", "pg1", "pg2", "pg3") // a node that is away gets no other plan
		controllertest.Put(m, doc, "enabled: false")
		controllertest.Settle(t, New(), m, "pg-test")
		if command, timeout := archivingOf(t, m, "pg1"); command != "/bin/true" || timeout != nil {
			t.Errorf("%s, switched off: %v after %v", name, command, timeout)
		}
	}
	m := controllertest.Load(t, "testdata/small.txtar")
	controllertest.Put(m, doc, "enabled: no")
	controllertest.Settle(t, New(), m, "pg-test")
	if command, _ := archivingOf(t, m, "pg1"); command != "/bin/true" {
		t.Errorf("a document that can't be read began it: %v", command)
	}
}
