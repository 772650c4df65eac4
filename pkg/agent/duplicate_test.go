package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestASecondPatroniUnderOneName: a Patroni with an empty data directory, on another
// host, runs under the leader's name: it overwrites the member key and deletes the
// leader key, which the real one takes again, some 50 times in 7 s (measured on 3.0.2).
// The leader's agent confirms nothing while the key is not its own Patroni's, says
// DuplicateMember and LeaderFlapping, and is itself again when the other is gone.
func TestASecondPatroniUnderOneName(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := settle(t, w)
		before, _ := w.primary()
		stranger := `{"state":"running","role":"replica","version":"3.0.2","api_url":"http://10.0.0.9:8008/patroni"}`
		w.etcd.Put(layout.Members("c")+member(1), stranger)
		for range 50 {
			w.etcd.Delete(layout.Leader("c"))
			after(70 * time.Millisecond)
			w.leader(1)
			after(70 * time.Millisecond)
		}
		if now, _ := w.primary(); now.Epoch != before.Epoch || now.Sequence != before.Sequence {
			t.Errorf("the leader's agent acted for the stranger: %+v, before %+v", now, before)
		}
		after(2 * time.Second)
		said := map[observed.Reason]bool{}
		st := a1.Status()
		for _, c := range st.Clusters[0].Why {
			said[c.Reason] = true
		}
		for _, c := range w.report(1, "haproxy").Conditions {
			said[c.Reason] = true
		}
		if !said[observed.DuplicateMember] || !said[observed.LeaderFlapping] {
			t.Errorf("it says %s", fmt.Sprint(st.Clusters[0].Why))
		}
		w.member(1, "running")
		epoch := w.leader(1)
		after(12 * time.Second)
		p, _ := w.primary()
		expect(t, "confirmed again at epoch", p.Epoch, epoch)
		for _, c := range a1.Status().Clusters[0].Why {
			if c.Reason == observed.DuplicateMember || c.Reason == observed.LeaderFlapping {
				t.Errorf("still says %s", c)
			}
		}
	})
}
