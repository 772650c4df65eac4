package operations

import (
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const cluster = "pg-test"

var layout = keys.Default

// running is a cluster of three whose first member leads and takes writes.
func running(t testing.TB) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	controllertest.Settle(t, postgres.New(), m, cluster)
	for _, node := range []string{"pg1", "pg2", "pg3"} {
		controllertest.Put(m, layout.AliveKey(node), string(observed.Encode(observed.Alive{
			Schema: observed.Schema, Node: node, PlanSchema: plan.Schema, Programs: map[string]string{"pgbackrest": "2.45"}, PostgreSQL: []int{15},
		})))
	}
	leads(m, 1)
	return m
}

func formed(m *kv.Map) observed.Formed {
	f, _ := observed.Read[observed.Formed](m, layout.FormedKey(cluster))
	return f
}

// leads makes a member the confirmed primary, on a timeline of its own.
func leads(m *kv.Map, i int) {
	member := cluster + "-" + string(rune('0'+i))
	controllertest.Put(m, layout.Leader(cluster), member)
	controllertest.Put(m, layout.PrimaryKey(cluster), string(observed.Encode(observed.Primary{
		Member: member, Node: "pg" + string(rune('0'+i)), Epoch: m.At, Writable: true, Timeline: int64(i), UID: formed(m).UID,
	})))
}

// reports has a node's agent say what its repository holds.
func reports(m *kv.Map, node string, backups ...observed.Backup) {
	controllertest.Put(m, layout.ObservedKey(node, cluster, "backup"), string(observed.Encode(observed.Report{
		Schema: observed.Schema, Concern: "backup", UID: formed(m).UID, Repository: &observed.Repository{Where: "local:/x", Stanza: true, Backups: backups},
	})))
}

func ops(m *kv.Map) []operations.Stored {
	out, _ := operations.Load(m, layout, cluster)
	return out
}

// step is the only step that is asked.
func step(t testing.TB, m *kv.Map) (kv.KV, plan.Step) {
	t.Helper()
	all := m.Range(layout.Prefix(keys.Steps))
	if len(all) != 1 {
		t.Fatalf("%d steps are asked", len(all))
	}
	s, err := observed.Decode[plan.Step](all[0])
	if err != nil {
		t.Fatal(err)
	}
	return all[0], s
}

func answer(t testing.TB, m *kv.Map, r observed.StepResult) {
	t.Helper()
	e, _ := step(t, m)
	r.Step = e.ModRevision
	controllertest.Put(m, strings.Replace(e.Key, "/steps/", "/results/", 1), string(observed.Encode(r)))
	controllertest.Settle(t, New(), m, cluster)
}

func backup(label string, timeline int) observed.Backup {
	return observed.Backup{
		Label: label, Type: "full", Started: controllertest.Now.Add(-time.Minute), Stopped: controllertest.Now,
		LastWAL: "0000000" + string(rune('0'+timeline)) + "0000000000000005",
	}
}

var done = observed.StepResult{State: observed.StepDone}

// TestBackupsDespiteOtherDocuments: a slip in a document that is not about backups stops none.
func TestBackupsDespiteOtherDocuments(t *testing.T) {
	for document, begins := range map[string]bool{"postgres": true, "backup": false} {
		m := running(t)
		reports(m, "pg1")
		controllertest.Put(m, layout.ClusterDoc(cluster, document), "no_such_field: 1\n")
		controllertest.Settle(t, New(), m, cluster)
		if got := len(ops(m)) > 0; got != begins {
			t.Errorf("with a slip in %s one begins: %v", document, got)
		}
	}
}

func TestTheFirstBackup(t *testing.T) {
	m := running(t)
	if r := controllertest.Settle(t, New(), m, cluster); len(ops(m)) > 0 {
		t.Fatalf("it begins before anybody looked into the repository: %v", r.Outputs)
	}
	reports(m, "pg1")
	controllertest.Settle(t, New(), m, cluster)
	controllertest.Deterministic(t, New(), m, cluster)
	e, s := step(t, m)
	if s.Act != plan.ActStanza || !strings.HasPrefix(e.Key, "/pgctrl/steps/pg1/pg-test.backup-") || s.Member != "pg-test-1" {
		t.Fatalf("asked %s %+v", e.Key, s)
	}
	answer(t, m, done)
	if _, s = step(t, m); s.Act != plan.ActBackup || s.Backup != plan.BackupFull {
		t.Fatalf("asked %+v", s)
	}
	answer(t, m, observed.StepResult{State: observed.StepDone, Label: "L"})
	reports(m, "pg1", backup("L", 1))
	r := controllertest.Settle(t, New(), m, cluster)
	if all := ops(m); len(all) != 1 || all[0].State != operations.Done || all[0].Label != "L" || len(r.Conditions) > 0 {
		t.Errorf("at the end %+v %v", all, r.Conditions)
	}
	if left := m.Range(layout.Prefix(keys.Steps)); len(left)+len(m.Range(layout.Prefix(keys.Results))) > 0 {
		t.Errorf("left: %v", left)
	}
	if r.After <= 0 {
		t.Error("it does not ask to be called when the next one is due")
	}
}

// TestHistorySplits: with a repository on each primary's own node a failover leaves the
// backups behind, and a full one is due at once.
func TestHistorySplits(t *testing.T) {
	m := running(t)
	reports(m, "pg1", backup("L", 1))
	controllertest.Settle(t, New(), m, cluster)
	if len(ops(m)) > 0 {
		t.Fatal("a backup is due although there is one")
	}
	leads(m, 2)
	reports(m, "pg2")
	r := controllertest.Settle(t, New(), m, cluster)
	if e, s := step(t, m); !strings.HasPrefix(e.Key, "/pgctrl/steps/pg2/") || s.Member != "pg-test-2" {
		t.Errorf("asked %s", e.Key)
	}
	if len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.RepositorySplit {
		t.Errorf("conditions %v", r.Conditions)
	}
}

// TestAGapIsDue: WAL that is missing since the newest backup makes a full one begin at once, and
// only one; it is said until that is there.
func TestAGapIsDue(t *testing.T) {
	m := running(t)
	old := backup("L", 1)
	old.FirstWAL = "000000010000000000000004"
	gap := observed.Gap{First: "000000010000000000000007", Last: "000000010000000000000008", Segments: 2, LSN: "0/7000000"}
	has := func(backups ...observed.Backup) {
		controllertest.Put(m, layout.ObservedKey("pg1", cluster, "backup"), string(observed.Encode(observed.Report{
			Schema: observed.Schema, Concern: "backup", UID: formed(m).UID,
			Repository: &observed.Repository{Where: "local:/x", Stanza: true, Backups: backups, Gaps: []observed.Gap{gap}},
		})))
	}
	has(old)
	r := controllertest.Settle(t, New(), m, cluster)
	if len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.WALGap || !strings.Contains(r.Conditions[0].Message, gap.First) {
		t.Fatalf("conditions %v", r.Conditions)
	}
	controllertest.Deterministic(t, New(), m, cluster)
	answer(t, m, done)
	if _, s := step(t, m); s.Act != plan.ActBackup || s.Backup != plan.BackupFull {
		t.Fatalf("asked %+v", s)
	}
	answer(t, m, observed.StepResult{State: observed.StepDone, Label: "M"})
	fresh := backup("M", 1)
	fresh.FirstWAL, fresh.LastWAL = "00000001000000000000000A", "00000001000000000000000A"
	has(old, fresh)
	r = controllertest.Settle(t, New(), m, cluster)
	if all := ops(m); len(all) != 1 || all[0].State != operations.Done || len(r.Conditions) > 0 {
		t.Errorf("at the end %+v %v", all, r.Conditions)
	}
}

// TestSharedRepository: a failover needs no new backup, and the next one that is due is
// asked of the new primary.
func TestSharedRepository(t *testing.T) {
	m := running(t)
	controllertest.Put(m, layout.ClusterDoc(cluster, "backup"), "repository: s3\ns3: {endpoint: s3.example.org, bucket: bbb}\nschedules: {incremental: '* * * * *'}")
	reports(m, "pg1", backup("L", 1))
	leads(m, 2)
	reports(m, "pg2", backup("L", 1))
	controllertest.Settle(t, New(), m, cluster)
	if e, s := step(t, m); !strings.HasPrefix(e.Key, "/pgctrl/steps/pg2/") || s.Act != plan.ActStanza {
		t.Errorf("asked %s", e.Key)
	}
	if o := ops(m); o[0].Args.Backup != plan.BackupIncremental {
		t.Errorf("due: %+v", o[0])
	}
}

func TestHeld(t *testing.T) {
	for name, put := range map[string][2]string{
		"paused": {"/pg/pg-test/config", `{"pause": true}`},
		"frozen": {layout.ClusterDoc(cluster, "freeze"), "until: 2026-03-01T13:00:00Z\nowner: root@pg1\nreason: test"},
		"postgres frozen, whose node would refuse": {layout.ClusterDoc(cluster, "freeze"), "until: 2026-03-01T13:00:00Z\nowner: root@pg1\nreason: test\nconcerns: [postgres]"},
		"disabled": {layout.ClusterDoc(cluster, "backup"), "enabled: false"},
		"unclear":  {layout.ClusterDoc(cluster, "backup"), "enabled: maybe"},
	} {
		m := running(t)
		controllertest.Put(m, put[0], put[1])
		reports(m, "pg1")
		controllertest.Settle(t, New(), m, cluster)
		if len(ops(m)) > 0 {
			t.Errorf("%s: a backup began", name)
		}
	}
}

// TestOneAtATime: the second waits, and begins when the first has ended.
func TestOneAtATime(t *testing.T) {
	m := running(t)
	reports(m, "pg1", backup("L", 1))
	for i, id := range []string{"backup-a", "backup-b"} {
		o := operations.NewBackup(operations.Asked{
			Cluster: cluster, UID: formed(m).UID, Store: "S1", By: "root@pg1", At: controllertest.Now.Add(time.Duration(i) * time.Second),
		}, plan.BackupIncremental)
		s, _ := observed.Read[observed.Store](m, layout.StoreKey())
		o.ID, o.Store = id, s.Incarnation
		controllertest.Put(m, layout.OperationKey(cluster, id), string(observed.Encode(o)))
	}
	controllertest.Settle(t, New(), m, cluster)
	answer(t, m, done)
	if all := ops(m); all[0].State != operations.Running || all[1].State != operations.Waiting || all[1].Reason != observed.OperationUnderWay {
		t.Fatalf("%+v", all)
	}
	answer(t, m, done)
	if all := ops(m); all[0].State != operations.Done || all[1].State != operations.Running {
		t.Fatalf("%+v", all)
	}
}

// TestToken: an operation that disrupts waits while a command has the token, takes it then,
// and gives it back.
func TestToken(t *testing.T) {
	m := running(t)
	s, _ := observed.Read[observed.Store](m, layout.StoreKey())
	o := operations.Operation{
		Schema: 1, Kind: "move", ID: "move-a", Cluster: cluster, UID: formed(m).UID, Store: s.Incarnation, State: operations.Waiting,
		Deadline: controllertest.Now.Add(time.Hour), Phases: []operations.Phase{{Name: operations.PhaseArchive}},
	}
	controllertest.Put(m, layout.TokenKey(cluster), `{"operation":"restart-x","by":"root@pg1"}`)
	controllertest.Put(m, layout.OperationKey(cluster, o.ID), string(observed.Encode(o)))
	controllertest.Settle(t, New(), m, cluster)
	if all := ops(m); all[0].State != operations.Waiting {
		t.Fatalf("it runs beside restart-x: %+v", all)
	}
	controllertest.Delete(m, layout.TokenKey(cluster))
	controllertest.Settle(t, New(), m, cluster)
	if h, held := operations.TokenHolder(m, layout, cluster); !held || h.Operation != o.ID || ops(m)[0].State != operations.Running {
		t.Fatalf("token %+v, %+v", h, ops(m))
	}
	answer(t, m, done)
	if _, held := operations.TokenHolder(m, layout, cluster); held || ops(m)[0].State != operations.Done {
		t.Errorf("held %t, %+v", held, ops(m))
	}
}

func TestOldOnesAreForgotten(t *testing.T) {
	m := running(t)
	reports(m, "pg1", backup("L", 1))
	for i := range Kept + 5 {
		id := "backup-" + string(rune('a'+i))
		controllertest.Put(m, layout.OperationKey(cluster, id), string(observed.Encode(operations.Operation{
			Schema: 1, Kind: operations.KindBackup, ID: id, State: operations.Done, Began: controllertest.Now, Ended: controllertest.Now,
		})))
	}
	controllertest.Settle(t, New(), m, cluster)
	if all := ops(m); len(all) != Kept || all[0].ID != "backup-f" {
		t.Errorf("%d are left, the oldest is %s", len(all), all[0].ID)
	}
}

// TestOthersAreLeft: what a newer server wrote is neither moved on nor deleted.
func TestOthersAreLeft(t *testing.T) {
	m := running(t)
	key := layout.OperationKey(cluster, "backup-new")
	controllertest.Put(m, key, `{"schema": 99, "kind": "backup"}`)
	reports(m, "pg1")
	controllertest.Settle(t, New(), m, cluster)
	if e, ok := m.Get(key); !ok || !strings.Contains(string(e.Value), "99") {
		t.Error("it was changed")
	}
}

var _ controllers.Controller = New()

// TestAnEarlierClustersBackups: what became of them holds up no backup of the next cluster
// of the name.
func TestAnEarlierClustersBackups(t *testing.T) {
	m := running(t)
	o := operations.NewBackup(operations.Asked{Cluster: cluster, UID: "earlier", Store: "x", By: operations.BySchedule, At: controllertest.Now.Add(-time.Minute)}, plan.BackupFull)
	o.State, o.Ended, o.Cancel = operations.Cancelled, controllertest.Now.Add(-time.Second), "removal"
	controllertest.Put(m, layout.OperationKey(cluster, o.ID), string(observed.Encode(o)))
	reports(m, "pg1")
	controllertest.Settle(t, New(), m, cluster)
	if len(ops(m)) != 2 {
		t.Error("the first backup waits for an hour")
	}
}
