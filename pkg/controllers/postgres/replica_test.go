package postgres

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

const s3Doc = "repository: s3\ns3: {endpoint: minio, bucket: pg-backups}\n"

// archivingTo is a cluster with a leader that archives by a document.
func archivingTo(t testing.TB, doc string) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "testdata/small.txtar")
	installed(m, "2.45", "pg1", "pg2", "pg3")
	controllertest.Put(m, keys.Default.ClusterDoc("pg-test", "backup"), doc)
	for _, s := range []string{keys.BackupS3Key, keys.BackupS3Secret} {
		controllertest.Put(m, keys.Default.Secret("pg-test", s), "secret")
	}
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/initialize", "7300000000000000001")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	controllertest.Settle(t, New(), m, "pg-test")
	return m
}

// takes is what the file of a node has of the repository, in one line.
func takes(t testing.TB, m *kv.Map, node string) string {
	t.Helper()
	content := filesOn(t, m, node)["/etc/patroni/pg-test.yml"]
	if content == "" {
		t.Fatalf("node %s has no file", node)
	}
	var out []string
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		for _, of := range []string{"restore_command: ", "command: \"pgagent", "- pgbackrest", "- basebackup"} {
			if strings.HasPrefix(line, of) {
				out = append(out, line)
			}
		}
	}
	return strings.Join(out, "; ")
}

const (
	walOf  = `restore_command: "test ! -e /run/pgctrl/streams/pg-test && timeout --foreground 6 pgbackrest --config=/etc/pgbackrest/conf.d/pg-test.conf --stanza=pg-test archive-get %f \"%p\""; - pgbackrest; - basebackup; `
	auto   = walOf + `command: "pgagent replica pg-test"`
	always = walOf + `command: "pgagent replica pg-test --always"`
)

// TestReplicasFromTheRepository: only where all members reach one repository, as the documents
// say it, and PostgreSQL archives.
func TestReplicasFromTheRepository(t *testing.T) {
	for doc, want := range map[string]string{
		s3Doc:                                    auto,
		s3Doc + "replicas_from_repository: auto": auto,
		s3Doc + "replicas_from_repository: never":  "",
		s3Doc + "replicas_from_repository: always": always,
		"{}":                               "",
		"replicas_from_repository: always": always, // the folder may be a shared file system
		s3Doc + "enabled: false":           "",
	} {
		m := archivingTo(t, doc)
		if got := takes(t, m, "pg2"); got != want {
			t.Errorf("%s\n got %s\nwant %s", doc, got, want)
		}
		controllertest.Deterministic(t, New(), m, "pg-test")
	}
	// One that can't be told apart from a restart is left alone.
	m := controllertest.Load(t, "testdata/small.txtar")
	controllertest.Put(m, keys.Default.ClusterDoc("pg-test", "backup"), s3Doc)
	controllertest.Settle(t, New(), m, "pg-test")
	if got := takes(t, m, "pg1"); got != "" {
		t.Errorf("nothing is archived, and replicas take %s", got)
	}
}

// TestR4BackupDocumentKeepsReplicas: a document that can't be read reloads no Patroni.
func TestR4BackupDocumentKeepsReplicas(t *testing.T) {
	for doc, want := range map[string]string{s3Doc: auto, s3Doc + "replicas_from_repository: always": always, "{}": ""} {
		m := archivingTo(t, doc)
		controllertest.Put(m, keys.Default.ClusterDoc("pg-test", "backup"), "repository: [")
		if r := controllertest.Run(t, New(), m, "pg-test"); controllertest.Apply(m, r) {
			t.Errorf("%s: it changed a plan", doc)
		}
		if got := takes(t, m, "pg2"); got != want {
			t.Errorf("%s\n got %s\nwant %s", doc, got, want)
		}
	}
}

// TestR8BackupsChangeNoPlan: what the repository holds is the command's to ask.
func TestR8BackupsChangeNoPlan(t *testing.T) {
	m := archivingTo(t, s3Doc)
	for _, repository := range []string{`{"where":"s3:x","stanza":true}`,
		`{"where":"s3:x","stanza":true,"backups":[{"label":"20261126-010000F","type":"full","started":"2026-11-26T01:00:00Z","stopped":"2026-11-26T01:10:00Z","first_wal":"","last_wal":"","size":99999999999,"copied":1,"stored":1}]}`} {
		controllertest.Put(m, keys.Default.ObservedKey("pg1", "pg-test", "backup"), `{"schema":1,"concern":"backup","plan":1,"repository":`+repository+`}`)
		if r := controllertest.Run(t, New(), m, "pg-test"); controllertest.Apply(m, r) {
			t.Error("a backup changed a plan")
		}
	}
}
