package agent_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// olderDisk is a copy of the agent's state as it is now.
func (r *running) olderDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestOlderKeptPlanReplacesNothing: a disk may hold an older plan than the one in force
// (it was full, or is put back). With etcd within reach, however slow, the agent asks it
// first; without, it waits for no longer than PlansWithin.
func TestOlderKeptPlanReplacesNothing(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		old := a2.olderDisk(t)
		w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(anotherConfig(2, "globals"))))
		after(2 * time.Second)
		a2.stop()
		n := len(a2.host.Events())
		w.slowPlans = 2 * time.Second
		a2 = w.startOn(2, old, a2.host)
		after(10 * time.Second)
		expect(t, "acts", strings.Join(a2.host.Events()[n:], ", "), "")
		r := w.report(2, "haproxy")
		expect(t, "done", r.Done(r.Plan), true)

		a2.stop()
		w.etcd.Cut("pg2")
		a2.host.Drift(unitName)
		began := time.Now()
		a2 = w.startOn(2, old, a2.host)
		for len(a2.host.Events()) == n {
			after(50 * time.Millisecond)
			if time.Since(began) > time.Minute {
				t.Fatal("a kept plan is never applied without etcd")
			}
		}
		took := time.Since(began)
		if took < agent.PlansWithin || took > agent.PlansWithin+time.Second {
			t.Errorf("applied %s after the start", took)
		}
	})
}

// TestOlderKeptAddressIsNotTaken: the virtual address that an older plan has is kept if
// it is here, and neither claimed nor taken before etcd was asked for the plan.
func TestOlderKeptAddressIsNotTaken(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		old := w.host(1).olderDisk(t)
		other := plan.Address{Address: "10.0.0.98/32", Network: "10.0.0.98/24"}
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "vip"), string(plan.Encode(vipPlan(i, other))))
		}
		after(8 * time.Second)
		expect(t, "the newer address", fmt.Sprint(w.host(1).host.Addresses().List()), "["+other.Address+"]")
		w.host(1).stop()
		h := w.host(1).host
		w.slowPlans = 2 * time.Second
		w.startOn(1, old, h)
		for range 200 {
			after(50 * time.Millisecond)
			for _, a := range h.Addresses().List() {
				if a != other.Address {
					t.Fatalf("%s is on the host again", a)
				}
			}
			if r := w.vipRecord(); r.Address != other.Network {
				t.Fatalf("record %+v", r)
			}
		}
		expect(t, "the newer address", fmt.Sprint(h.Addresses().List()), "["+other.Address+"]")
	})
}
