package postgres

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const restoreDoc = `stanza: pg-old
repository: s3
folder: /pgctrl/pg-old-12345678
cipher: aes-256-cbc
s3: {endpoint: "s3.example.org:9000", bucket: backups, ca_file: /etc/ca.crt}
backup: 20260301-010000F
target: {type: time, value: "2026-03-01 11:59:00+00"}
`

// restored is a cluster that is to begin with another one's backup.
func restored(t testing.TB, doc string, secrets ...string) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "testdata/small.txtar")
	controllertest.Put(m, keys.Default.ClusterDoc("pg-test", "restore"), doc)
	for _, s := range secrets {
		controllertest.Put(m, keys.Default.Secret("pg-test", s), "secret")
	}
	controllertest.Settle(t, New(), m, "pg-test")
	return m
}

// filesOn are the contents of the files in a node's plan, by path.
func filesOn(t testing.TB, m *kv.Map, node string) map[string]string {
	t.Helper()
	out := map[string]string{}
	e, ok := m.Get(keys.Default.PlanKey(node, "pg-test", Concern))
	if !ok {
		return out
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Resources {
		if u, is := r.(plan.Unit); is {
			for _, f := range u.Files {
				out[f.Path] = f.Content
			}
		}
	}
	return out
}

func TestBeginsWithABackup(t *testing.T) {
	m := restored(t, restoreDoc, keys.RestorePassphrase, keys.RestoreS3Key, keys.RestoreS3Secret)
	files := filesOn(t, m, "pg1")
	section := between(files["/etc/patroni/pg-test.yml"], "bootstrap:\n", "\npostgresql:")
	controllertest.Golden(t, "testdata/restore.yml", []byte(section+"\n"))
	controllertest.Golden(t, "testdata/restore.conf", []byte(files["/etc/pgbackrest/restore.d/pg-test.conf"]))
	if len(filesOn(t, m, "pg2")) > 0 {
		t.Error("another member begins before the first has its data")
	}
	// Once there are data, nothing of it is left on the host.
	controllertest.Put(m, "/pg/pg-test/initialize", "7000000000000000000")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	controllertest.Settle(t, New(), m, "pg-test")
	files = filesOn(t, m, "pg1")
	if len(files) != 1 || strings.Contains(files["/etc/patroni/pg-test.yml"], "restore_command") {
		t.Errorf("with its data it has %d files, and is to begin with a backup", len(files))
	}
	if other := filesOn(t, m, "pg2")["/etc/patroni/pg-test.yml"]; other == "" || strings.Contains(other, "restore_command") {
		t.Error("the second member does not copy from the first")
	}
}

func TestRestoreWaitsForItsSecrets(t *testing.T) {
	m := restored(t, restoreDoc, keys.RestorePassphrase)
	if len(filesOn(t, m, "pg1")) > 0 {
		t.Error("it begins without a secret")
	}
	r := controllertest.Run(t, New(), m, "pg-test")
	found := false
	for _, c := range r.Conditions {
		found = found || c.Reason == observed.WaitingForSecret && c.Next == "pgctrl secret set pg-test restore-s3-key"
	}
	if !found {
		t.Errorf("conditions %v", r.Conditions)
	}
}

func TestRestoreFromAFolder(t *testing.T) {
	m := restored(t, "stanza: pg-old\nfolder: /var/lib/pgbackrest/pg-old-12345678")
	files := filesOn(t, m, "pg1")
	if conf := files["/etc/pgbackrest/restore.d/pg-test.conf"]; !strings.Contains(conf, "repo1-type=posix\n") || strings.Contains(conf, "secret") {
		t.Errorf("pgBackRest's file:\n%s", conf)
	}
	if yml := files["/etc/patroni/pg-test.yml"]; strings.Contains(yml, "recovery_target_time:") || !strings.Contains(yml, "--type=none restore") {
		t.Errorf("Patroni's file:\n%s", between(yml, "bootstrap:", "initdb"))
	}
}

// TestATimeThatAStartingPostgreSQLKnows: it has no letters for time zones yet.
func TestATimeThatAStartingPostgreSQLKnows(t *testing.T) {
	m := restored(t, "stanza: pg-old\nfolder: /var/lib/pgbackrest/pg-old-12345678\ntarget: {type: time, value: '2026-11-26 12:30:00Z'}")
	if yml := filesOn(t, m, "pg1")["/etc/patroni/pg-test.yml"]; !strings.Contains(yml, "2026-11-26 12:30:00+00") {
		t.Errorf("Patroni's file:\n%s", between(yml, "bootstrap:", "initdb"))
	}
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}
