package agent_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func TestReplicationIsReported(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rev := w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "postgres"), string(plan.Encode(postgresPlan(i, rev))))
		}
		fact := func(i int) string { return w.report(i, "postgres").Facts[observed.FactReplication] }
		a2 := w.start(2, "")
		after(time.Second)
		expect(t, "a PostgreSQL that does not answer yet", fact(2), "waiting")
		a2.stop()

		a1, a2, a3 := settle(t, w)
		after(time.Second)
		expect(t, "the leader", fact(1), "")
		expect(t, "it runs and does not stream", fact(2), "waiting")
		a2.host.SetPostgres(streaming())
		a3.host.SetPostgres(streaming())
		after(500 * time.Millisecond)
		expect(t, "pg2", fact(2), "streaming")
		expect(t, "pg3", fact(3), "streaming")

		after(5 * time.Second)
		rev = w.etcd.Revision()
		after(10 * time.Minute)
		expect(t, "R8: written when it changes only", w.etcd.Revision(), rev)

		a1.host.SetPostgres(agent.PostgresState{})
		w.leader(2)
		a2.host.SetPostgres(writable(2))
		after(time.Second)
		expect(t, "the old leader, stopped", fact(1), "waiting")
		expect(t, "the new leader", fact(2), "")
		a3.host.SetPostgres(recovering())
		after(time.Second)
		expect(t, "its receiver went away", fact(3), "waiting")
		forked := recovering()
		forked.RecoveryTimeline = 7
		a3.host.SetPostgres(forked)
		after(time.Second)
		expect(t, "its WAL went another way", w.report(3, "postgres").Facts[observed.FactRecoveryTimeline], "7")
		a3.host.SetPostgres(streaming())
		after(time.Second)
		expect(t, "and came back", fact(3), "streaming")
		expect(t, "and it follows", w.report(3, "postgres").Facts[observed.FactRecoveryTimeline], "")
	})
}
