package agent_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestForkUnderOneTimelineNumberIsReported: m2 led for a moment, was killed, and m3 took
// the same timeline; also for an agent that was started since, and whatever the WAL
// receiver says. It ends when the data are copied anew.
func TestForkUnderOneTimelineNumberIsReported(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rev := w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "postgres"), string(plan.Encode(postgresPlan(i, rev))))
		}
		fact := func() string { return w.report(2, "postgres").Facts[observed.FactForked] }
		of := func(s agent.PostgresState, data int64) agent.PostgresState { s.Data = data; return s }
		_, a2, a3 := settle(t, w)
		a2.host.SetPostgres(of(writable(2), 100))
		w.leader(2)
		after(500 * time.Millisecond)
		a2.host.SetPostgres(agent.PostgresState{})
		a2.stop()
		w.leader(3)
		a3.host.SetPostgres(writable(2))
		after(time.Second)
		a2.host.SetPostgres(of(streaming(), 100))
		a2 = w.startOn(2, a2.dir, a2.host)
		after(3 * time.Second)
		expect(t, "forked", fact(), "2")
		mentions(t, "logged", w.logs.String(), "led on a timeline whose number another one took too")

		a2.stop()
		a2 = w.startOn(2, a2.dir, a2.host)
		w.leader(1)
		w.agents["pg1"].host.SetPostgres(writable(3))
		a3.host.SetPostgres(streaming())
		after(3 * time.Second)
		expect(t, "it stays so", fact(), "2")
		expect(t, "m3 followed", w.report(3, "postgres").Facts[observed.FactForked], "")
		after(15 * time.Second) // four leaders in 10 s are said to be flapping
		rev = w.etcd.Revision()
		after(time.Minute)
		expect(t, "quiet", w.etcd.Revision(), rev)

		a2.host.SetPostgres(of(streaming(), 200))
		after(3 * time.Second)
		expect(t, "copied anew", fact(), "")
		if _, err := os.Stat(filepath.Join(a2.dir, "led", "c.json")); err != nil {
			t.Error(err)
		}
	})
}
