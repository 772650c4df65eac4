package operations

import (
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func asked(m *kv.Map, after time.Duration) operations.Asked {
	s, _ := observed.Read[observed.Store](m, layout.StoreKey())
	return operations.Asked{Cluster: cluster, UID: formed(m).UID, Store: s.Incarnation, By: "root@pg1", At: controllertest.Now.Add(after)}
}

func put(m *kv.Map, o operations.Operation) {
	controllertest.Put(m, layout.OperationKey(cluster, o.ID), string(observed.Encode(o)))
}

// TestRestoreInPlaceHasTheClusterForItself: it gets the token; a backup that goes on ends when
// members are stopped, none begins meanwhile, and a full one does when it is over. Its record
// stays for as long as it keeps data, and is told when those are discarded.
func TestRestoreInPlaceHasTheClusterForItself(t *testing.T) {
	m := running(t)
	reports(m, "pg1", backup("L", 1))
	b := operations.NewBackup(asked(m, 0), plan.BackupIncremental)
	put(m, b)
	controllertest.Settle(t, New(), m, cluster)
	r := operations.NewRestore(asked(m, time.Second), plan.Restore{First: "pg-test-1", Data: "/data/pg-test", Backup: "L", Target: "latest"}, []string{"pg-test-2", "pg-test-3"}, false)
	put(m, r)
	controllertest.Settle(t, New(), m, cluster)
	if h, held := operations.TokenHolder(m, layout, cluster); !held || h.Operation != r.ID {
		t.Fatalf("the token is %v's: %v", h, held)
	}
	op := func(id string) *operations.Operation {
		t.Helper()
		for _, o := range ops(m) {
			if o.ID == id {
				return &o.Operation
			}
		}
		t.Fatalf("no record of %s", id)
		return nil
	}
	answered := func(act plan.Act) {
		t.Helper()
		for _, e := range m.Range(layout.Prefix("steps")) {
			if s, err := observed.Decode[plan.Step](e); err == nil && s.Act == act {
				controllertest.Put(m, strings.Replace(e.Key, "/steps/", "/results/", 1), string(observed.Encode(observed.StepResult{Step: e.ModRevision, State: observed.StepDone})))
				controllertest.Settle(t, New(), m, cluster)
				return
			}
		}
		t.Fatalf("%s is not asked: %+v", act, op(r.ID).Phases)
	}
	answered(plan.ActPrepare)
	if o := op(b.ID); o.Cancel != r.ID {
		t.Fatalf("a backup goes on while members are stopped: %+v", o)
	} else if p, asked := o.Now(); asked && o.Withdrawn == p.Step {
		controllertest.Put(m, layout.ResultKey(p.Node, p.Step), string(observed.Encode(observed.StepResult{State: observed.StepFailed})))
	} else {
		t.Fatalf("its step is not taken back: %+v", o)
	}
	answered(plan.ActAside)
	answered(plan.ActAside)
	answered(plan.ActSwap)
	controllertest.Put(m, layout.OperationKey(cluster, "backup-x"), string(observed.Encode(func() operations.Operation {
		o := operations.NewBackup(asked(m, 2*time.Second), plan.BackupFull)
		o.ID = "backup-x"
		return o
	}())))
	controllertest.Settle(t, New(), m, cluster)
	if o := op("backup-x"); o.State != operations.Waiting {
		t.Fatalf("a backup began on a cluster that stands still: %s", o.State)
	}
	leads(m, 1)
	controllertest.Settle(t, New(), m, cluster)
	answered(plan.ActFollow)
	answered(plan.ActFollow)
	if o := op(r.ID); o.State != operations.Done {
		t.Fatalf("%s %s", o.State, o.Message)
	}
	if _, held := operations.TokenHolder(m, layout, cluster); held {
		t.Error("the token is not given back")
	}
	if o := op("backup-x"); o.State != operations.Running {
		t.Errorf("the backup that waited: %s %s", o.State, o.Message)
	}
	d := operations.NewDiscard(asked(m, 3*time.Second), *op(r.ID).Args.Restore, op(r.ID).Keeps())
	put(m, d)
	controllertest.Settle(t, New(), m, cluster)
	for range 3 {
		answered(plan.ActDiscard)
	}
	if o := op(r.ID); o.Discarded.IsZero() || len(o.Keeps()) > 0 {
		t.Errorf("it still keeps %v", o.Keeps())
	}
}

// TestATokenOfNobody: what no record and no lease stands behind goes; a command's stays.
func TestATokenOfNobody(t *testing.T) {
	m := running(t)
	controllertest.Put(m, layout.TokenKey(cluster), string(observed.Encode(operations.Holder{Operation: "restore-gone"})))
	controllertest.Settle(t, New(), m, cluster)
	if _, held := operations.TokenHolder(m, layout, cluster); held {
		t.Error("it is held for ever")
	}
	controllertest.Put(m, layout.TokenKey(cluster), string(observed.Encode(operations.Holder{Operation: "restore-new"})))
	controllertest.Put(m, layout.OperationKey(cluster, "restore-new"), `{"schema":99,"kind":"restore","id":"restore-new"}`)
	controllertest.Settle(t, New(), m, cluster)
	if _, held := operations.TokenHolder(m, layout, cluster); !held {
		t.Error("a newer server's was taken")
	}
}
