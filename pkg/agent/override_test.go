package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func holdAt(member string, d time.Duration) agent.Hold {
	return agent.Hold{Override: agent.Override{Kind: agent.OverrideRoute, Member: member, For: d, By: "root"}}
}

// TestRouteHeldByHand: against what the leader key says, with etcd away, over a start
// of the agent, until its time is over or somebody ends it; and it is reported.
func TestRouteHeldByHand(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := settle(t, w)
		held2, err := a2.Hold(t.Context(), holdAt("m3", 10*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(held2.Warning, "m1 leads as far as is known") {
			t.Errorf("warning: %q", held2.Warning)
		}
		after(2 * time.Second)
		expect(t, "held", held(a2, "primary"), "m1=down m2=down m3=up")
		expect(t, "replica routes are left alone", held(a2, "replica"), "m1=down m2=leave m3=leave")
		expect(t, "the other node", held(a1, "primary"), "m1=up m2=down m3=down")
		r := w.report(2, "haproxy")
		expect(t, "reported", reasonIn(r, observed.Overridden), true)
		expect(t, "nothing is wrong", r.Done(r.Plan), true)
		w.etcd.Cut("pg2")
		after(time.Minute)
		expect(t, "with etcd away", held(a2, "primary"), "m1=down m2=down m3=up")
		if last := a2.host.Asserts()[len(a2.host.Asserts())-1]; time.Since(last.At) > time.Second {
			t.Errorf("last asserted %s ago", time.Since(last.At))
		}
		w.etcd.Heal("pg2")
		after(30 * time.Second)
		rev := w.etcd.Revision()
		after(time.Minute)
		expect(t, "quiet while held", w.etcd.Revision(), rev)

		a2.stop()
		a2 = w.startOn(2, a2.dir, a2.host)
		n := len(a2.host.Asserts())
		after(2 * time.Second)
		if len(a2.host.Asserts()) == n {
			t.Fatal("a new agent asserts nothing")
		}
		expect(t, "over a start of the agent", held(a2, "primary"), "m1=down m2=down m3=up")
		expect(t, "in status", len(a2.Status().Overrides), 1)
		after(8 * time.Minute)
		expect(t, "it ended by itself", held(a2, "primary"), "m1=up m2=down m3=down")
		expect(t, "in status", len(a2.Status().Overrides), 0)
		expect(t, "in the report", reasonIn(w.report(2, "haproxy"), observed.Overridden), false)

		if _, err := a2.Hold(t.Context(), holdAt("m2", time.Hour)); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		expect(t, "held again", held(a2, "primary"), "m1=down m2=up m3=down")
		off := holdAt("", 0)
		off.Off = true
		if _, err := a2.Hold(t.Context(), off); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		expect(t, "ended by hand", held(a2, "primary"), "m1=up m2=down m3=down")
		if _, err := a2.Hold(t.Context(), off); !errors.Is(err, agent.ErrOverride) {
			t.Errorf("ended twice: %v", err)
		}
	})
}

// TestRouteHeldWithoutEtcdAtBoot: what a person needs in the worst hour.
func TestRouteHeldWithoutEtcdAtBoot(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := settle(t, w)
		a1.stop()
		h := agenttest.New("machinepg1")
		off := startOffline(t, w, a1.dir, h)
		after(time.Second)
		if _, err := off.Hold(t.Context(), holdAt("m2", time.Minute)); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		expect(t, "m2", h.Targets("primary")["m2"].Held.String(), "up")
		expect(t, "m1", h.Targets("primary")["m1"].Held.String(), "down")
		if err := off.ComposeState(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		composed := h.Composed()
		expect(t, "a start of HAProxy begins so", composed[len(composed)-1].Targets["primary"]["m2"].Start.String(), "up")
		after(2 * time.Minute)
		n := len(h.Asserts())
		after(time.Minute)
		expect(t, "over, nothing is asserted", len(h.Asserts()), n)
	})
}

func TestWhatCannotBeHeld(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		for name, h := range map[string]agent.Hold{
			"no such member":  holdAt("m9", time.Minute),
			"no time":         holdAt("m1", 0),
			"for ever":        holdAt("m1", 1000*time.Hour),
			"unknown cluster": {Override: agent.Override{Kind: agent.OverrideRoute, Cluster: "d", Member: "m1", For: time.Minute}},
			"unknown kind":    {Override: agent.Override{Kind: "pool", Member: "m1", For: time.Minute}},
		} {
			if _, err := a2.Hold(t.Context(), h); !errors.Is(err, agent.ErrOverride) {
				t.Errorf("%s: %v", name, err)
			}
		}
		after(time.Second)
		expect(t, "routes", held(a2, "primary"), "m1=up m2=down m3=down")
	})
}

// TestClockSetBackProlongsNothing: the next agent goes by what was asked for.
func TestClockSetBackProlongsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t}
		dir := t.TempDir()
		file := filepath.Join(dir, "overrides.json")
		far := time.Now().Add(5 * time.Hour).UTC().Format(time.RFC3339)
		text := `[{"kind":"vip","cluster":"c","act":"drop","for_nanoseconds":60000000000,"until":"` + far + `"}]`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := agent.New(agent.Options{Node: "pg1", StateDir: dir, OverrideFile: file, Host: agenttest.New("m").Wire(), Connect: w.nobody})
		if err != nil {
			t.Fatal(err)
		}
		held := a.Status().Overrides
		expect(t, "held", len(held), 1)
		expect(t, "act", held[0].Act, plan.HandDrop)
		after(59 * time.Second)
		expect(t, "held for what was asked", len(a.Status().Overrides), 1)
		after(2 * time.Second)
		expect(t, "and not longer", len(a.Status().Overrides), 0)
	})
}
