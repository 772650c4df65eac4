package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func (r *running) freeze(t *testing.T, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func thaw(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// frozenNote is the report's note about the freeze; empty: it has none.
func frozenNote(r observed.Report) string {
	for _, c := range r.Conditions {
		if c.Reason == observed.Frozen && c.Status == observed.True {
			return c.Message
		}
	}
	return ""
}

func anotherConfig(i int, content string) plan.Plan {
	p := haproxyPlan(i)
	u := p.Resources[0].(plan.Unit)
	u.Files = []plan.File{{Path: "/etc/haproxy/c.cfg", Mode: "0640", Content: content}}
	p.Resources = plan.Resources{u}
	return p
}

func mentions(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q: %s", what, w, text)
		}
	}
}

func TestAFrozenNodeAppliesAndRepairsNothing(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := settle(t, w)
		after(agent.SettleAfterMove) // reports wait for the move to be over
		n, loaded := len(a2.host.Events()), w.report(2, "haproxy").Loaded
		path := a2.freeze(t, "freeze.c", "\ndisk is being replaced, ask bob\nsecond line\n")
		after(agent.DriftEvery + time.Second)
		r := w.report(2, "haproxy")
		expect(t, "nothing waits", applied(t, r).Status, observed.True)
		mentions(t, "the note", frozenNote(r), path, "(disk is being replaced, ask bob)", "routes still follow the leader")

		// A new plan is taken in, answered and not applied.
		rev := w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(anotherConfig(2, "globals"))))
		a2.host.Drift("haproxy@c.service")
		after(time.Second)
		r = w.report(2, "haproxy")
		expect(t, "answered", r.Plan, rev)
		expect(t, "done", r.Done(rev), false)
		expect(t, "in force", r.Loaded, loaded)
		c := applied(t, r)
		expect(t, "reason", c.Reason, observed.Frozen)
		mentions(t, "the condition", c.Message, path, "unit haproxy@c.service is not as planned", "files differ")
		mentions(t, "next", c.Next, "rm "+path, "pg2")
		expect(t, "on pg1", frozenNote(w.report(1, "haproxy")), "")

		// One with the same content and other surroundings waits as well.
		again := anotherConfig(2, "globals")
		again.Inputs.Revision = rev
		rev = w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(again)))
		after(time.Second)
		expect(t, "answered", w.report(2, "haproxy").Plan, rev)
		expect(t, "still in force", w.report(2, "haproxy").Loaded, loaded)

		// It is quiet about it, and goes on to follow the leader.
		quiet := w.etcd.Revision()
		after(10 * time.Minute)
		expect(t, "R8", w.etcd.Revision(), quiet)
		expect(t, "acts", len(a2.host.Events()), n)
		a1.host.SetPostgres(recovering())
		w.leader(3)
		w.agents["pg3"].host.SetPostgres(writable(2))
		after(time.Second)
		expect(t, "routes", held(a2, "primary"), "m1=down m2=down m3=up")

		thaw(t, path)
		after(agent.DriftEvery + time.Second)
		r = w.report(2, "haproxy")
		expect(t, "acts after it", strings.Join(a2.host.Events()[n:], ", "), "apply haproxy@c.service")
		expect(t, "done", r.Done(rev), true)
		expect(t, "note", frozenNote(r), "")
	})
}

// A frozen node that restarts its agent goes on with the plan that its programs
// run with, and with etcd away too.
func TestAFrozenPlanIsNotKeptAsTheOneInForce(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		path := a2.freeze(t, "freeze", "")
		p := anotherConfig(2, "globals")
		u := p.Resources[0].(plan.Unit)
		u.Routes = map[string]plan.Route{"other": u.Routes["primary"]}
		p.Resources = plan.Resources{u}
		rev := w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(p)))
		a2.host.Drift("haproxy@c.service")
		after(agent.DriftEvery)
		a2.stop()
		a2 = w.startOn(2, a2.dir, a2.host)
		after(time.Minute)
		expect(t, "routes", held(a2, "primary"), "m1=up m2=down m3=down")
		old, found, err := agent.LoadKept(a2.dir, "c", "haproxy")
		if err != nil || !found || old.Resources[0].(plan.Unit).Routes["primary"].Role != plan.RoutePrimary {
			t.Fatalf("kept: %+v %v %v", old, found, err)
		}
		expect(t, "the report answers the new plan", w.report(2, "haproxy").Plan, rev)
		thaw(t, path)
		after(agent.DriftEvery + time.Second)
		expect(t, "done", w.report(2, "haproxy").Done(rev), true)
		if k, _, err := agent.LoadKept(a2.dir, "c", "haproxy"); err != nil || len(k.Resources[0].(plan.Unit).Routes) != 1 {
			t.Fatalf("kept after the freeze: %+v %v", k, err)
		}
	})
}

func TestFreezeFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		make   func(path string) error
		frozen bool
		why    string
	}{
		"of another cluster": {"freeze.d", write(""), false, ""},
		"of all clusters":    {"freeze", write("why\n"), true, "freeze (why) exists"},
		"empty":              {"freeze.c", write(""), true, "freeze.c exists"},
		"without a newline":  {"freeze.c", write("why"), true, "freeze.c (why) exists"},
		"long and binary":    {"freeze.c", write("a\x00\xffb" + strings.Repeat("x", 9000)), true, "(a  bxxx"},
		"a folder":           {"freeze.c", func(p string) error { return os.Mkdir(p, 0o700) }, true, "freeze.c exists"},
		"a pipe":             {"freeze.c", func(p string) error { return syscall.Mkfifo(p, 0o600) }, true, "freeze.c exists"},
		"a dangling link":    {"freeze.c", func(p string) error { return os.Symlink("nowhere", p) }, true, "can't be read"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				_, a2, _ := settle(t, w)
				if err := c.make(filepath.Join(a2.dir, c.file)); err != nil {
					t.Fatal(err)
				}
				after(agent.DriftEvery + time.Second)
				note := frozenNote(w.report(2, "haproxy"))
				expect(t, "frozen", note != "", c.frozen)
				if !strings.Contains(note, c.why) || len(note) > 600 {
					t.Errorf("note: %s", note)
				}
				why := ""
				for _, c := range a2.Status().Clusters[0].Why {
					why += string(c.Reason)
				}
				expect(t, "pgagent status", strings.Contains(why, "Frozen"), c.frozen)
			})
		})
	}
}

func write(content string) func(string) error {
	return func(path string) error { return os.WriteFile(path, []byte(content), 0o600) }
}
