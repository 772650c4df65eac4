package agent_test

import (
	"testing"
	"time"
)

// TestPauseKeepsClients: Patroni is paused and its leader key runs out; the primary
// keeps its clients on every node until its own PostgreSQL is seen in recovery.
func TestPauseKeepsClients(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := settle(t, w)
		w.etcd.Put(layout.Scope("c")+"config", `{"ttl":30,"pause":true}`)
		after(time.Second)
		w.etcd.Delete(layout.Leader("c"))
		after(time.Minute)
		expect(t, "without a leader key", held(a2, "primary"), "m1=insist m2=down m3=down")
		a1.host.SetPostgres(recovering())
		after(3 * time.Second)
		if p, _ := w.primary(); p.Writable {
			t.Fatal("not withdrawn")
		}
		expect(t, "after its PostgreSQL went into recovery", held(a2, "primary"), "m1=down m2=down m3=down")
	})
}
