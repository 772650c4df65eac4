package agent_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
)

// TestPrimaryWhosePatroniIsStoppedIsVouchedFor: while HAProxy gets no answer from its
// Patroni, by what this node finds out itself, and for no longer than that.
func TestPrimaryWhosePatroniIsStoppedIsVouchedFor(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		h := w.host(3).host
		expect(t, "at rest", held(w.host(3), "primary"), "m1=up m2=down m3=down")
		calls := w.etcd.Calls(node(3))
		after(10 * time.Second)
		rest := w.etcd.Calls(node(3)) - calls

		w.silence(1)
		h.SetSilent(true)
		after(2 * time.Second)
		expect(t, "its PostgreSQL does not answer either", held(w.host(3), "primary"), "m1=up m2=down m3=down")
		h.SetAnswers("m1", true)
		after(2 * time.Second)
		expect(t, "contested", held(w.host(3), "primary"), "m1=vouch m2=down m3=down")
		expect(t, "start", h.Targets("primary")["m1"].Start.String(), "up")
		after(3 * time.Second)
		expect(t, "still contested", held(w.host(3), "primary"), "m1=vouch m2=down m3=down")
		h.SetAnswers("m1", false)
		after(4 * time.Second)
		expect(t, "PostgreSQL went", held(w.host(3), "primary"), "m1=up m2=down m3=down")
		h.SetAnswers("m1", true)
		after(2 * time.Second)
		expect(t, "and is back", held(w.host(3), "primary"), "m1=vouch m2=down m3=down")
		after(8 * time.Second)
		expect(t, "the lease is about to end", held(w.host(3), "primary"), "m1=up m2=down m3=down")
		w.mu.Lock()
		w.silent[1] = false
		w.mu.Unlock()
		after(7 * time.Second)
		expect(t, "it is renewed", held(w.host(3), "primary"), "m1=vouch m2=down m3=down")

		h.SetSilent(false)
		after(15 * time.Second)
		expect(t, "the check is answered again", held(w.host(3), "primary"), "m1=up m2=down m3=down")
		calls = w.etcd.Calls(node(3))
		after(10 * time.Second)
		if n := w.etcd.Calls(node(3)) - calls; n > rest+2 {
			t.Errorf("%d calls of etcd in 10 s at rest, %d before", n, rest)
		}
	})
}

// contested has pg3 vouch for m1, whose Patroni does not answer its HAProxy.
func (w *vipWorld) contested(t *testing.T) {
	t.Helper()
	w.host(3).host.SetSilent(true)
	w.host(3).host.SetAnswers("m1", true)
	after(3 * time.Second)
	expect(t, "contested", held(w.host(3), "primary"), "m1=vouch m2=down m3=down")
}

// TestNobodyVouchesWithoutTheLeadersAgent: only that one would say that PostgreSQL
// entered recovery (R3).
func TestNobodyVouchesWithoutTheLeadersAgent(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.contested(t)
		w.etcd.Cut(node(1))
		w.host(1).stop()
		after(agent.PresenceTTL + time.Second)
		expect(t, "its agent is away", held(w.host(3), "primary"), "m1=up m2=down m3=down")
	})
}

// TestVouchedPrimaryInRecoveryIsDown at once (R3).
func TestVouchedPrimaryInRecoveryIsDown(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.contested(t)
		w.host(1).host.SetPostgres(recovering())
		after(300 * time.Millisecond)
		expect(t, "in recovery", held(w.host(3), "primary"), "m1=down m2=down m3=down")
	})
}
