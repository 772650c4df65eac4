package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
)

// TestArchiveIsAskedOnlyBehind: a replica looks into the archive when it has followed a
// confirmed primary for a while without a stream, and not in a failover, where its promotion
// would wait for a store that is away.
func TestArchiveIsAskedOnlyBehind(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		_, a2, _ := settle(t, w)
		said := func(what string, want ...bool) {
			t.Helper()
			if got := a2.host.Streams(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: it said %v, want %v", what, got, want)
			}
		}
		a2.host.SetPostgres(streaming())
		after(time.Second)
		said("it streams", true)

		w.agents["pg1"].host.SetPostgres(agent.PostgresState{}) // the primary is gone, and confirms that it is
		a2.host.SetPostgres(recovering())
		w.etcd.Delete(layout.Leader("c"))
		after(30 * time.Second)
		said("nobody leads", true)
		a2.host.SetPostgres(writable(2))
		w.leader(2)
		after(time.Second)
		said("it was promoted", true)

		w.agents["pg1"].host.SetPostgres(writable(3))
		w.leader(1)
		a2.host.SetPostgres(recovering())
		after(5 * time.Second)
		said("it follows, and has no stream yet", true)
		a2.host.SetPostgres(streaming())
		after(time.Second)
		a2.host.SetPostgres(recovering())
		after(9 * time.Second)
		said("it had one meanwhile", true)
		after(2 * time.Second)
		said("it lacks WAL", true, false)
		rev := w.etcd.Revision()
		after(time.Minute)
		said("it goes on lacking it", true, false)
		expect(t, "quiet", w.etcd.Revision(), rev)
		a2.host.SetPostgres(streaming())
		after(time.Second)
		said("it streams again", true, false, true)
	})
}

// TestFormerPrimaryStartsWithoutTheArchive: it has its own WAL, and a stream for the rest.
func TestFormerPrimaryStartsWithoutTheArchive(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		a1, a2, _ := settle(t, w)
		said := func(what string, want ...bool) {
			t.Helper()
			if got := a1.host.Streams(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: it said %v, want %v", what, got, want)
			}
		}
		said("it leads", true)
		a1.host.SetPostgres(agent.PostgresState{Refused: true})
		a2.host.SetPostgres(writable(2))
		w.leader(2)
		after(50 * time.Second)
		said("it stops and starts", true)
		a1.host.SetPostgres(recovering())
		after(9 * time.Second)
		said("it is there, and has no stream yet", true)
		a1.host.SetPostgres(streaming())
		after(time.Minute)
		said("it streams", true)
		a1.host.SetPostgres(agent.PostgresState{Refused: true})
		after(15 * time.Second)
		said("it is a replica like others", true, false)
	})
}

// TestArchiveIsAskedWhileItStarts: one that was restored from a backup answers nobody before
// it has the WAL that the backup needs, and an agent that was started meanwhile takes nothing
// back before it knows.
func TestArchiveIsAskedWhileItStarts(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		_, a2, _ := settle(t, w)
		a2.host.SetPostgres(agent.PostgresState{Refused: true})
		after(5 * time.Second)
		if got := a2.host.Streams(); len(got) > 1 || len(got) == 1 && !got[0] {
			t.Errorf("after 5 s it said %v", got)
		}
		after(10 * time.Second)
		if got := a2.host.Streams(); len(got) == 0 || got[len(got)-1] {
			t.Errorf("after 15 s it said %v", got)
		}
	})
}
