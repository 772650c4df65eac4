package desired

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/kv"
)

func backupOf(t *testing.T, text string) Backup {
	t.Helper()
	s := kv.NewMap(kv.KV{Key: l.ClusterDoc("c", "backup"), Value: []byte(text), ModRevision: 1})
	c := Load(s, l, "c", "backup")
	if len(c.Problems) > 0 {
		t.Fatal(c.Problems)
	}
	return c.Backup
}

// TestBackupDefaults: what a repository of each sort has without a word.
func TestBackupDefaults(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) // a Thursday
	const store = "repository: s3\ns3: {endpoint: \"minio:9000\", bucket: pg-backups}\n"
	for _, c := range []struct {
		name, text, where, cipher string
		full, diff, incr          string // when each is due next
	}{
		{"nothing said", "{}", "local:/var/lib/pgbackrest/c-1", CipherNone, "27 01:00", "", ""},
		{"a store", store, "s3:minio:9000/pg-backups/pgctrl/c-1", "aes-256-cbc", "29 01:00", "", "27 01:00"},
		{"a store with one schedule", store + "schedules: {full: \"@daily\"}", "s3:minio:9000/pg-backups/pgctrl/c-1", "aes-256-cbc", "27 00:00", "", "27 01:00"},
		{"no schedules", "schedules: {full: none, incremental: \"\"}", "local:/var/lib/pgbackrest/c-1", CipherNone, "", "", ""},
		{"all schedules", "schedules: {full: 0 3 * * 6, differential: 0 3 * * 3, incremental: 0 */6 * * *}\ntime_zone: Europe/Berlin\npath: /backup", "local:/backup/c-1", CipherNone, "28 02:00", "02 02:00", "26 17:00"},
		{"off", "enabled: false", "local:/var/lib/pgbackrest/c-1", CipherNone, "", "", ""},
	} {
		b := backupOf(t, c.text)
		if got := b.Where("c-1"); got != c.where || b.Cipher != c.cipher {
			t.Errorf("%s: %s with cipher %s", c.name, got, b.Cipher)
		}
		for of, want := range map[string]string{"full": c.full, "diff": c.diff, "incr": c.incr, "other": ""} {
			s, ok := b.Schedule(of)
			if ok != (want != "") || ok && s.After(now).Format("02 15:04") != want {
				t.Errorf("%s: %s is due (%v) %v, want %q", c.name, of, ok, s, want)
			}
		}
	}
}
