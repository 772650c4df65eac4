package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/status"
)

// at is a moment of one day, in seconds.
func at(s int64) time.Time { return time.Unix(1_800_000_000+s, 0).UTC() }

// backedUp says that a cluster has a backup of a type in a node's repository.
func backedUp(kind string, from, to int64) observed.Backup {
	return observed.Backup{Type: kind, Started: at(from), Stopped: at(to), Size: 1000 + to, Stored: 100 + to}
}

// reports is a node's word on its repository.
func reports(uid, err string, backups ...observed.Backup) observed.Report {
	return observed.Report{Schema: observed.Schema, Concern: "backup", UID: uid, Repository: &observed.Repository{Where: "local", Stanza: true, Backups: backups, Error: err}}
}

// said is what a collector says of some metrics, without HELP and TYPE.
func said(t *testing.T, c prometheus.Collector, names ...string) string {
	t.Helper()
	b, err := testutil.CollectAndFormat(c, expfmt.TypeTextPlain, names...)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(out, "\n")
}

// three is a cluster of three members, of which that on the node leads.
func three(t *testing.T, m *kv.Map, leads string) {
	t.Helper()
	st := status.ClusterStatus{Cluster: "pg-test", Exists: true}
	for _, n := range []string{"1", "2", "3"} {
		st.Members = append(st.Members, status.Member{Name: "pg-test-" + n, Node: "pg" + n})
		if leads == "pg"+n {
			st.Leader = "pg-test-" + n
		}
	}
	put(t, m, keys.Default.StatusKey("pg-test"), st)
}

// TestBackupsInNumbers: the newest backups are those of the leader's own repository.
func TestBackupsInNumbers(t *testing.T) {
	const last, split = "pgctrl_backup_last_stop_timestamp_seconds", "pgctrl_backup_repository_split"
	names := []string{last, split, "pgctrl_backup_last_duration_seconds", "pgctrl_backup_last_size_bytes", "pgctrl_backup_last_stored_bytes"}
	l, m := keys.Default, kv.NewMap()
	c := newClusters(l, func() kv.Snapshot { return m })
	shows := func(when, want string) {
		t.Helper()
		if got := said(t, c, names...); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", when, got, want)
		}
	}
	report := func(node string, r any) { put(t, m, l.ObservedKey(node, "pg-test", "backup"), r) }
	put(t, m, l.FormedKey("pg-test"), observed.Formed{Schema: 1, UID: "u2"})
	three(t, m, "pg1")
	shows("nothing reported", "")
	report("pg1", "{")
	report("pg2", observed.Report{Schema: observed.Schema, UID: "u2"})
	report("pg3", reports("u1", "", backedUp("full", 500, 600)))
	shows("unreadable, not looked at, of an earlier cluster", "")
	report("pg1", reports("u2", ""))
	shows("an empty repository", split+`{cluster="pg-test"} 0`)
	const ofPg1 = `pgctrl_backup_last_duration_seconds{cluster="pg-test"} 7
pgctrl_backup_last_size_bytes{cluster="pg-test"} 1037
pgctrl_backup_last_stop_timestamp_seconds{cluster="pg-test",type="full"} 1.80000001e+09
pgctrl_backup_last_stop_timestamp_seconds{cluster="pg-test",type="incr"} 1.800000037e+09
pgctrl_backup_last_stored_bytes{cluster="pg-test"} 137`
	report("pg1", reports("u2", "", backedUp("full", 0, 5), backedUp("full", 6, 10), backedUp("incr", 20, 25), backedUp("incr", 30, 37)))
	shows("full and incremental ones", ofPg1+"\n"+split+`{cluster="pg-test"} 0`)
	three(t, m, "pg2")
	shows("the new leader's was not read", "")
	report("pg2", reports("u2", ""))
	shows("it is empty, the old one's is not", split+`{cluster="pg-test"} 1`)
	report("pg2", reports("u2", "", backedUp("full", 35, 36)))
	shows("it has an older one", `pgctrl_backup_last_duration_seconds{cluster="pg-test"} 1
pgctrl_backup_last_size_bytes{cluster="pg-test"} 1036
pgctrl_backup_last_stop_timestamp_seconds{cluster="pg-test",type="full"} 1.800000036e+09
pgctrl_backup_last_stored_bytes{cluster="pg-test"} 136
pgctrl_backup_repository_split{cluster="pg-test"} 1`)
	report("pg2", reports("u2", "", backedUp("full", 40, 50)))
	const ofPg2 = `pgctrl_backup_last_duration_seconds{cluster="pg-test"} 10
pgctrl_backup_last_size_bytes{cluster="pg-test"} 1050
pgctrl_backup_last_stop_timestamp_seconds{cluster="pg-test",type="full"} 1.80000005e+09
pgctrl_backup_last_stored_bytes{cluster="pg-test"} 150`
	shows("it has the newest", ofPg2+"\n"+split+`{cluster="pg-test"} 0`)
	report("pg2", reports("u2", "no route to host", backedUp("full", 40, 50)))
	shows("it can't be read any more", ofPg2)
}

// TestOperationsInNumbers: those that go on, those that failed, and when the last ended.
func TestOperationsInNumbers(t *testing.T) {
	names := []string{"pgctrl_operations", "pgctrl_operation_ended_timestamp_seconds"}
	l, m := keys.Default, kv.NewMap()
	c := newClusters(l, func() kv.Snapshot { return m })
	three(t, m, "pg1")
	if got := said(t, c, names...); got != "" {
		t.Errorf("of nothing: %s", got)
	}
	for i, o := range []operations.Operation{
		{Kind: operations.KindBackup, State: operations.Done, Ended: at(1)},
		{Kind: operations.KindBackup, State: operations.Done, Ended: at(3)},
		{Kind: operations.KindBackup, State: operations.Failed, Ended: at(2)},
		{Kind: operations.KindBackup, State: operations.Failed, Ended: at(4)},
		{Kind: operations.KindBackup, State: operations.Running},
		{Kind: operations.KindBackup, State: operations.Waiting},
		{Kind: operations.KindArchive, State: operations.Cancelled, Ended: at(5)},
		{Kind: "\xff", State: operations.Running},
		{Kind: operations.KindBackup, State: "odd"},
		{Schema: operations.Schema + 1, Kind: operations.KindBackup, State: operations.Running},
	} {
		put(t, m, l.OperationKey("pg-test", string(rune('a'+i))), o)
	}
	put(t, m, l.TokenKey("pg-test"), operations.Holder{Operation: "restart-x"})
	put(t, m, l.OperationKey("pg-test2", "x"), operations.Operation{Kind: operations.KindBackup, State: operations.Running})
	const want = `pgctrl_operation_ended_timestamp_seconds{cluster="pg-test",kind="archive",state="cancelled"} 1.800000005e+09
pgctrl_operation_ended_timestamp_seconds{cluster="pg-test",kind="backup",state="done"} 1.800000003e+09
pgctrl_operation_ended_timestamp_seconds{cluster="pg-test",kind="backup",state="failed"} 1.800000004e+09
pgctrl_operations{cluster="pg-test",kind="backup",state="failed"} 2
pgctrl_operations{cluster="pg-test",kind="backup",state="running"} 1
pgctrl_operations{cluster="pg-test",kind="backup",state="waiting"} 1`
	for range 2 { // the second time from memory
		if got := said(t, c, names...); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	}
}

// TestBackupsDueInNumbers: the next one is due by the schedule, reckoned from the newest that
// serves; another document is another schedule.
func TestBackupsDueInNumbers(t *testing.T) {
	l, m := keys.Default, kv.NewMap()
	c := newClusters(l, func() kv.Snapshot { return m })
	day := func(d, h int) time.Time { return time.Date(2027, 3, d, h, 30, 0, 0, time.UTC) }
	made := func(kind string, d, h int) observed.Backup {
		return observed.Backup{Type: kind, Started: day(d, h), Stopped: day(d, h).Add(2 * time.Hour)}
	}
	revision := int64(0)
	for _, tc := range []struct {
		what, doc string
		backups   []observed.Backup
		want      time.Time
	}{
		{"no full one", "schedules: {full: 0 1 * * *}\n", []observed.Backup{made("incr", 1, 1)}, time.Time{}},
		{"daily, made in time", "schedules: {full: 0 1 * * *}\n", []observed.Backup{made("full", 1, 1)}, day(2, 0).Add(30 * time.Minute)},
		{"by default each night", "", []observed.Backup{made("full", 1, 0)}, day(1, 0).Add(30 * time.Minute)},
		{"begun before it was due", "schedules: {full: 0 2 * * *}\n", []observed.Backup{made("full", 1, 1)}, day(1, 1).Add(30 * time.Minute)},
		{"a full one serves for an incremental", "schedules: {full: 0 1 1 * *, incremental: 0 1 * * *}\n",
			[]observed.Backup{made("incr", 1, 1), made("full", 3, 1)}, day(4, 0).Add(30 * time.Minute)},
		{"an incremental does not for a full one", "schedules: {full: 0 1 * * *, incremental: 0 1 * * *}\n",
			[]observed.Backup{made("full", 1, 1), made("incr", 5, 1)}, day(2, 0).Add(30 * time.Minute)},
		{"never", "schedules: {full: none}\n", []observed.Backup{made("full", 1, 1)}, time.Time{}},
		{"off", "enabled: false\n", []observed.Backup{made("full", 1, 1)}, time.Time{}},
		{"a document that can't be read", "schedules: {full: tomorrow}\n", []observed.Backup{made("full", 1, 1)}, time.Time{}},
	} {
		revision++
		put(t, m, l.ClusterDoc("pg-test", "backup"), tc.doc+"# a document\n")
		put(t, m, l.StatusKey("pg-test"), status.ClusterStatus{
			Cluster: "pg-test", Exists: true, Revision: revision, Leader: "pg-test-1", Members: []status.Member{{Name: "pg-test-1", Node: "pg1"}},
		})
		put(t, m, l.ObservedKey("pg1", "pg-test", "backup"), reports("", "", tc.backups...))
		want := ""
		if !tc.want.IsZero() {
			want = fmt.Sprintf(`pgctrl_backup_due_timestamp_seconds{cluster="pg-test"} %v`, float64(tc.want.Unix()))
		}
		if got := said(t, c, "pgctrl_backup_due_timestamp_seconds"); got != want {
			t.Errorf("%s: got %q, want %q", tc.what, got, want)
		}
	}
}

// TestAGapInNumbers: a gap since the newest backup of the leader's repository counts, one before
// it does not, and what could not be read says nothing.
func TestAGapInNumbers(t *testing.T) {
	l, m := keys.Default, kv.NewMap()
	c := newClusters(l, func() kv.Snapshot { return m })
	put(t, m, l.FormedKey("pg-test"), observed.Formed{Schema: 1, UID: "u2"})
	three(t, m, "pg1")
	gap := observed.Gap{First: "000000010000000000000006", Last: "000000010000000000000007"}
	for _, tc := range []struct{ first, err, want string }{
		{"000000010000000000000002", "", ` 1`},
		{"000000010000000000000007", "", ` 1`},
		{"000000010000000000000008", "", ` 0`},
		{"000000010000000000000002", "no route", ""},
	} {
		b := backedUp("full", 0, 5)
		b.FirstWAL, b.LastWAL = tc.first, tc.first
		r := reports("u2", tc.err, b)
		r.Repository.Gaps = []observed.Gap{gap}
		put(t, m, l.ObservedKey("pg1", "pg-test", "backup"), r)
		if got := strings.TrimPrefix(said(t, c, "pgctrl_backup_wal_gap"), `pgctrl_backup_wal_gap{cluster="pg-test"}`); got != tc.want {
			t.Errorf("backup from %s on, %s: %q, want %q", tc.first, tc.err, got, tc.want)
		}
	}
}

// TestADamagedBackupInNumbers: the newest backup of the leader's repository counts; what could not
// be read says nothing.
func TestADamagedBackupInNumbers(t *testing.T) {
	l, m := keys.Default, kv.NewMap()
	c := newClusters(l, func() kv.Snapshot { return m })
	put(t, m, l.FormedKey("pg-test"), observed.Formed{Schema: 1, UID: "u2"})
	three(t, m, "pg1")
	sound, damaged := backedUp("full", 0, 5), backedUp("incr", 6, 7)
	damaged.Damaged = true
	for _, tc := range []struct {
		what, err string
		backups   []observed.Backup
		want      string
	}{
		{"no backup", "", nil, ` 0`},
		{"the newest is damaged", "", []observed.Backup{sound, damaged}, ` 1`},
		{"it can't be read any more", "no route", []observed.Backup{sound, damaged}, ""},
		{"a sound one is newer", "", []observed.Backup{damaged, sound}, ` 0`},
	} {
		put(t, m, l.ObservedKey("pg1", "pg-test", "backup"), reports("u2", tc.err, tc.backups...))
		if got := strings.TrimPrefix(said(t, c, "pgctrl_backup_damaged"), `pgctrl_backup_damaged{cluster="pg-test"}`); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.what, got, tc.want)
		}
	}
}

// TestProofsInNumbers: the newest proof that was done, whether the newest failed, and when it is
// too old.
func TestProofsInNumbers(t *testing.T) {
	names := []string{
		"pgctrl_backup_verified_timestamp_seconds", "pgctrl_backup_verify_restore_seconds", "pgctrl_backup_verify_loss_seconds", "pgctrl_backup_verify_failed",
		"pgctrl_backup_verify_stale_timestamp_seconds",
	}
	l, m := keys.Default, kv.NewMap()
	c := newClusters(l, func() kv.Snapshot { return m })
	three(t, m, "pg1")
	put(t, m, l.FormedKey("pg-test"), observed.Formed{Schema: 1, UID: "u2"})
	proof := func(id, uid string, state operations.State, ended int64, reason observed.Reason) {
		o := operations.Operation{
			Schema: operations.Schema, Kind: operations.KindVerify, ID: id, UID: uid, State: state, Reason: reason, Ended: at(ended),
			Phases: []operations.Phase{{Name: operations.PhaseHeartbeat}, {Name: operations.PhaseProve}},
		}
		if state == operations.Done {
			o.Recovered, o.Heartbeat = &observed.Recovered{Fetch: 60, Replay: float64(ended)}, &observed.Heartbeat{Window: 7}
		}
		put(t, m, l.OperationKey("pg-test", id), o)
	}
	shows := func(when, want string) {
		t.Helper()
		for range 2 { // the second time from memory
			if got := said(t, c, names...); got != want {
				t.Errorf("%s:\n%s\nwant:\n%s", when, got, want)
			}
		}
	}
	shows("nothing", "")
	proof("verify-0", "u1", operations.Done, 10, "")
	shows("an earlier cluster's", "")
	proof("verify-1", "u2", operations.Failed, 20, observed.RecoveryFailed)
	shows("it failed", `pgctrl_backup_verify_failed{cluster="pg-test"} 1`)
	proof("verify-2", "u2", operations.Done, 30, "")
	const done = `pgctrl_backup_verified_timestamp_seconds{cluster="pg-test"} 1.80000003e+09
pgctrl_backup_verify_failed{cluster="pg-test"} 0
pgctrl_backup_verify_loss_seconds{cluster="pg-test"} 7
pgctrl_backup_verify_restore_seconds{cluster="pg-test"} 90
pgctrl_backup_verify_stale_timestamp_seconds{cluster="pg-test"} 1.80129603e+09`
	shows("it was done", done)
	proof("verify-3", "u2", operations.Failed, 40, observed.LeaderChanged)
	shows("a failover ended one", done)
	proof("verify-4", "u2", operations.Failed, 50, observed.RecoveryFailed)
	shows("it failed again", strings.Replace(done, `failed{cluster="pg-test"} 0`, `failed{cluster="pg-test"} 1`, 1))
}
