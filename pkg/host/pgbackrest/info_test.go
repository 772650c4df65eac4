package pgbackrest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

const recordedSystem = "7712557393643994956"

func recorded(t testing.TB, name string) []byte {
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseInfo(t *testing.T) {
	r, err := parseInfo(recorded(t, "info-2.45-two.json"), "c", recordedSystem)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Stanza || len(r.Backups) != 2 || r.FirstWAL != "000000010000000000000001" || r.LastWAL != "000000010000000000000005" {
		t.Fatalf("%+v", r)
	}
	full, incr := r.Backups[0], r.Backups[1]
	if full.Label != "20261126-190151F" || full.Type != "full" || full.Prior != "" || full.Step != "c.backup-1-1" || full.Stopped.Unix() != 1795719722 ||
		full.StopLSN != "0/3000088" || full.Size != 22992547 || full.Stored != 3043462 || full.FirstWAL != "000000010000000000000002" {
		t.Fatalf("%+v", full)
	}
	if incr.Prior != full.Label || incr.Type != "incr" || incr.Copied != 8458 {
		t.Fatalf("%+v", incr)
	}
}

// TestParseInfoOfAnotherDatabase: what an earlier cluster of the name left is not this one's.
func TestParseInfoOfAnotherDatabase(t *testing.T) {
	for _, system := range []string{"7712557393643994957", ""} {
		r, err := parseInfo(recorded(t, "info-2.45-two.json"), "c", system)
		if err != nil || r.Stanza || len(r.Backups) != 0 || r.LastWAL != "" {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	// The stanza was made anew for another one (stanza-upgrade): the old backups are of the old.
	upgraded := strings.Replace(string(recorded(t, "info-2.45-two.json")), `"db":[`, `"db":[{"id":2,"repo-key":1,"system-id":7,"version":"15"},`, 1)
	old, err := parseInfo([]byte(upgraded), "c", recordedSystem)
	if err != nil || old.Stanza || len(old.Backups) != 2 {
		t.Fatalf("%+v, %v", old, err)
	}
	now, err := parseInfo([]byte(upgraded), "c", "7")
	if err != nil || !now.Stanza || len(now.Backups) != 0 {
		t.Fatalf("%+v, %v", now, err)
	}
}

func TestParseInfoOfNothing(t *testing.T) {
	for name, stanza := range map[string]bool{"info-2.45-missing.json": false, "info-2.45-empty.json": true} {
		r, err := parseInfo(recorded(t, name), "c", recordedSystem)
		if err != nil || len(r.Backups) != 0 || r.Stanza != stanza {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	const unread = `[{"name":"c","repo":[{"key":1,"status":{"code":99,"message":"[PathOpenError] unable to list\nHINT"}}],"status":{"code":99,"message":"other"}}]`
	if _, err := parseInfo([]byte(unread), "c", "1"); !errors.Is(err, errUnreadable) || !strings.HasSuffix(err.Error(), "unable to list") {
		t.Errorf("%v", err)
	}
}

func TestParseInfoKeepsTheNewest(t *testing.T) {
	var all []string
	for i := range observed.MaxBackups + 3 {
		all = append(all, fmt.Sprintf(`{"label":"%dF","database":{"id":1},"timestamp":{"start":%d,"stop":%d}}`, i, 1000-i, 1000-i))
	}
	r, err := parseInfo([]byte(`[{"name":"c","db":[{"id":1,"system-id":5}],"backup":[`+strings.Join(all, ",")+`]}]`), "c", "5")
	if err != nil || len(r.Backups) != observed.MaxBackups || r.Backups[observed.MaxBackups-1].Label != "0F" || r.Backups[0].Label != "63F" {
		t.Fatalf("%v, %d", err, len(r.Backups))
	}
}

func FuzzParseInfo(f *testing.F) {
	for _, name := range []string{"info-2.45-two.json", "info-2.45-empty.json", "info-2.45-missing.json", "info-2.45-running.json"} {
		f.Add(recorded(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseInfo(b, "c", recordedSystem)
		if err == nil && len(r.Backups) > observed.MaxBackups {
			t.Fatal("too many")
		}
	})
}

func TestParseLock(t *testing.T) {
	for in, want := range map[string]string{
		`{"execId":"30415-c27fe692","pctCplt":9436,"pid":30415}`: "94 of 100 %",
		`{"execId":"1-1","pctCplt":0,"pid":1}`:                   "0 of 100 %",
		`{"execId":"1-1","pid":1}`:                               "",
		`{"execId":"1","size":3159000,"sizeCplt":1754830}`:       "1754830 of 3159000 B",
		`{"size":10,"sizeCplt":12}`:                              "10 of 10 B",
		"1234\n5678\n":                                           "",
		"":                                                       "",
	} {
		got := ""
		if p := parseLock([]byte(in)); p != nil {
			got = fmt.Sprintf("%d of %d %s", p.Done, p.Total, p.Unit)
		}
		if got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestFailed(t *testing.T) {
	const locked = "ERROR: [050]: unable to acquire lock on file '/tmp/pgbackrest/c-backup.lock': Resource temporarily unavailable\n       HINT: is another pgBackRest process running?\n"
	for _, c := range []struct {
		code   int
		out    string
		reason observed.Reason
		has    string
		next   string
	}{
		{50, locked, observed.BackupRunning, "[050] unable to acquire lock", "pgrep -a pgbackrest (on pg1)"},
		{82, "", observed.ArchiveFailing, "exit code 82", "pgctrl backup check c"},
		{55, "", observed.StanzaMissing, "no stanza", "pgctrl backup check c"},
		{49, "", observed.RepositoryUnreachable, "can't be reached", "pgctrl backup check c"},
		{62, "", observed.BackupFailed, "by hand", "pgbackrest --config=/etc/pgbackrest/conf.d/c.conf --stanza=c start (as postgres on pg1)"},
		{25, "", observed.BackupFailed, "exit code 25", "journalctl -n 60 -u pgctrl-backup@c.service (on pg1)"},
	} {
		r := failed("take a backup", "c", "pg1", c.code, c.out)
		if r.Reason != c.reason || !strings.Contains(r.Message, c.has) || r.Next != c.next || strings.Contains(r.Message, "\n") {
			t.Errorf("%d: %+v", c.code, r)
		}
	}
}

func TestConfig(t *testing.T) {
	c := parseConfig([]byte("# pgctrl\n[global]\nrepo1-type=s3\nrepo1-s3-bucket = b\nrepo1-s3-endpoint=store:9000\nrepo1-s3-key-secret=hunter2\nrepo1-path=/x\n[c]\npg1-path=/d\n[d]\nrepo1-type=posix\n"))
	if got := c.where("c"); got != "s3:store:9000/b/x" {
		t.Error(got)
	}
	if _, is := c.local("c"); is {
		t.Error("an object store is not local")
	}
	if got, is := c.local("d"); !is || got != "/x" || c.where("d") != "local:/x" {
		t.Error(got, is)
	}
	if c.locks("c") != "/tmp/pgbackrest" || c.spool("c") != "/var/spool/pgbackrest/archive/c/out" {
		t.Error("defaults")
	}
}

func TestSpoolWords(t *testing.T) {
	dir := t.TempDir()
	if spoolWords(dir) != "" || spoolWords(dir+"/absent") != "" {
		t.Error("words of nothing")
	}
	if err := os.WriteFile(dir+"/000000010000000000000007.error", []byte("49\nunable to connect to 'store'\nHINT\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := spoolWords(dir); got != "[49] unable to connect to 'store'" {
		t.Error(got)
	}
}
