package operations

import (
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// lastWeek is a backup that was there when the proof was due, on this Sunday at 4.
func lastWeek(label string) observed.Backup {
	b := backup(label, 1)
	b.Started, b.Stopped = controllertest.Now.Add(-9*time.Hour), controllertest.Now.Add(-9*time.Hour)
	return b
}

// quiet is a document in which no backup is ever due.
const quiet = "schedules: {full: none}"

func proofsIn(m *kv.Map) (out []operations.Stored) {
	for _, o := range ops(m) {
		if o.Kind == operations.KindVerify {
			out = append(out, o)
		}
	}
	return out
}

func TestAProofThatIsDue(t *testing.T) {
	for name, c := range map[string]struct{ doc, node string }{
		"in the folder of the primary": {quiet, "pg1"},
		"in a store":                   {"repository: s3\ns3: {endpoint: s3.example.org, bucket: bbb}\nschedules: {full: none, incremental: none}", "pg2"},
		"in a store, by the document":  {"repository: s3\ns3: {endpoint: s3.example.org, bucket: bbb}\nschedules: {full: none, incremental: none}\nverify: {node: pg3}", "pg3"},
	} {
		m := running(t)
		controllertest.Put(m, layout.ClusterDoc(cluster, "backup"), c.doc)
		reports(m, "pg1", lastWeek("L"))
		controllertest.Settle(t, New(), m, cluster)
		controllertest.Deterministic(t, New(), m, cluster)
		e, s := step(t, m)
		if s.Act != plan.ActHeartbeat || !strings.HasPrefix(e.Key, "/pgctrl/steps/pg1/") || s.Verify.Backup != "L" || s.Verify.Data != formed(m).DataDirectory || s.Verify.Bin != "/usr/lib/postgresql/15/bin" {
			t.Fatalf("%s: asked %s %+v", name, e.Key, s)
		}
		answer(t, m, observed.StepResult{State: observed.StepDone, Heartbeat: &observed.Heartbeat{Window: 3}})
		if e, s = step(t, m); s.Act != plan.ActVerify || !strings.HasPrefix(e.Key, "/pgctrl/steps/"+c.node+"/") {
			t.Fatalf("%s: asked %s %+v", name, e.Key, s)
		}
		answer(t, m, observed.StepResult{State: observed.StepDone, Label: "L", Recovered: &observed.Recovered{Label: "L"}})
		r := controllertest.Settle(t, New(), m, cluster)
		if all := proofsIn(m); len(all) != 1 || all[0].State != operations.Done || all[0].By != operations.BySchedule || len(r.Conditions) > 0 {
			t.Errorf("%s: %+v %v", name, all, r.Conditions)
		}
		if r.After <= 0 {
			t.Errorf("%s: it does not ask to be called when the next one is due", name)
		}
	}
}

func TestNoProofBegins(t *testing.T) {
	for name, c := range map[string]struct {
		doc    string
		reason observed.Reason
	}{
		"none is wanted":         {quiet + "\nverify: {schedule: none}", ""},
		"backups are off":        {"enabled: false", ""},
		"the node has no member": {quiet + "\nverify: {node: pg9}", observed.VerificationFailed},
		"nor the repository":     {quiet + "\nverify: {node: pg2}", observed.VerificationFailed},
	} {
		m := running(t)
		controllertest.Put(m, layout.ClusterDoc(cluster, "backup"), c.doc)
		reports(m, "pg1", lastWeek("L"))
		r := controllertest.Settle(t, New(), m, cluster)
		if len(proofsIn(m)) > 0 {
			t.Errorf("%s: one began", name)
		}
		if got := len(r.Conditions); (got == 1) != (c.reason != "") || got == 1 && r.Conditions[0].Reason != c.reason {
			t.Errorf("%s: %v", name, r.Conditions)
		}
	}
}

// TestAFailedProofIsSaid and, as the newest that was done is kept, so is one that is too old.
func TestAFailedProofIsSaid(t *testing.T) {
	m := running(t)
	controllertest.Put(m, layout.ClusterDoc(cluster, "backup"), quiet)
	reports(m, "pg1", lastWeek("L"))
	controllertest.Settle(t, New(), m, cluster)
	answer(t, m, done)
	answer(t, m, observed.StepResult{State: observed.StepFailed, Reason: observed.RecoveryFailed, Message: "no segment X"})
	r := controllertest.Settle(t, New(), m, cluster)
	if all := proofsIn(m); len(all) != 1 || all[0].State != operations.Failed {
		t.Fatalf("%+v", all)
	}
	if len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.VerificationFailed || !r.Conditions[0].Bad() || !strings.Contains(r.Conditions[0].Message, "no segment X") {
		t.Errorf("%v", r.Conditions)
	}
}

func TestTheNewestProofIsKept(t *testing.T) {
	m := running(t)
	controllertest.Put(m, layout.ClusterDoc(cluster, "backup"), quiet)
	s, _ := observed.Read[observed.Store](m, layout.StoreKey())
	put := func(id string, state operations.State, ended time.Time) {
		o := operations.NewVerify(operations.Asked{Cluster: cluster, UID: formed(m).UID, Store: s.Incarnation, At: ended},
			plan.Verify{Backup: "L", Data: "/var/lib/postgresql/15/pg-test"}, "pg-test-1")
		o.ID, o.State, o.Ended = id, state, ended
		if state == operations.Done {
			o.Recovered = &observed.Recovered{}
		}
		controllertest.Put(m, layout.OperationKey(cluster, id), string(observed.Encode(o)))
	}
	put("verify-0", operations.Done, controllertest.Now.Add(-16*24*time.Hour))
	for i := range Kept + 5 {
		put("verify-"+string(rune('a'+i)), operations.Failed, controllertest.Now)
	}
	reports(m, "pg1", lastWeek("L"))
	r := controllertest.Settle(t, New(), m, cluster)
	all := proofsIn(m)
	if len(all) != Kept+1 || all[0].ID != "verify-0" {
		t.Errorf("%d are kept, the oldest %s", len(all), all[0].ID)
	}
	if len(r.Conditions) != 2 {
		t.Errorf("%v", r.Conditions)
	}
}

// TestAProofGivesWay to a restore in place: one restore at a time is made beside the data.
func TestAProofGivesWay(t *testing.T) {
	m := running(t)
	controllertest.Put(m, layout.ClusterDoc(cluster, "backup"), quiet)
	reports(m, "pg1", lastWeek("L"))
	controllertest.Settle(t, New(), m, cluster)
	s, _ := observed.Read[observed.Store](m, layout.StoreKey())
	o := operations.NewRestore(operations.Asked{Cluster: cluster, UID: formed(m).UID, Store: s.Incarnation, At: controllertest.Now},
		plan.Restore{First: "pg-test-1", Data: formed(m).DataDirectory}, []string{"pg-test-2", "pg-test-3"}, true)
	controllertest.Put(m, layout.OperationKey(cluster, o.ID), string(observed.Encode(o)))
	controllertest.Settle(t, New(), m, cluster)
	if all := proofsIn(m); len(all) != 1 || all[0].Cancel != o.ID {
		t.Errorf("%+v", all)
	}
	if len(m.Range(layout.Prefix(keys.Steps))) == 0 {
		t.Error("nothing is asked of anybody")
	}
}
