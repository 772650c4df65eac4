package unit

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// R5: a configuration that its own program rejects, half-applies, or dies of two
// seconds later never stays in place of a working one; one that could not be
// judged is Unknown, not rejected.
func TestR5LastKnownGood(t *testing.T) {
	for _, c := range []struct {
		content    string
		reason     observed.Reason
		words      string
		remembered bool
	}{
		{"rejected", observed.Rejected, "unknown keyword", true},
		{"port-taken", observed.PortInUse, "held by nginx", false},
		{"unaskable", observed.NotAnswering, "temporarily unavailable", false},
		{"reload-refused", observed.RolledBack, "failed 1", true},
		{"half-applied", observed.RolledBack, "something else", true},
		{"dies", observed.RolledBack, "segmentation fault", true},
		{"dies and is started again", observed.RolledBack, "segmentation fault", true},
		{"{{no such placeholder}}", observed.Rejected, "placeholder", true},
	} {
		t.Run(c.content, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := w.driver()
				w.mustApply(d, "good")
				w.systemd.Acts()
				w.questions()

				r := refusal(t, w.apply(d, c.content), c.reason)
				if !strings.Contains(r.Message, c.words) {
					t.Errorf("the program's words are missing: %s", r.Message)
				}
				w.inForce("good")

				// A new agent knows it as well, and the old configuration lives on.
				w.systemd.Acts()
				w.questions()
				time.Sleep(time.Minute)
				again := refusal(t, w.apply(w.driver(), c.content), c.reason)
				if asked := w.questions(); (asked == "") != c.remembered {
					t.Errorf("remembered should be %v; asked again: %q", c.remembered, asked)
				}
				if c.remembered && again.Message != r.Message {
					t.Errorf("said %q, then %q", r.Message, again.Message)
				}
				w.inForce("good")
				w.mustApply(d, "better")
				w.inForce("better")
			})
		})
	}
}

// The same where there was nothing before: nothing stays.
func TestR5FirstConfiguration(t *testing.T) {
	for content, reason := range map[string]observed.Reason{
		"rejected": observed.Rejected, "start-fails": observed.RolledBack, "dies": observed.RolledBack, "port-taken": observed.PortInUse,
	} {
		t.Run(content, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := w.driver()
				refusal(t, w.apply(d, content), reason)
				if st, _ := w.systemd.Status(t.Context(), unitUnderTest); st.Active() || st.Enabled() {
					t.Errorf("the unit: %+v", st)
				}
				if w.onDisk() != "" {
					t.Errorf("left on disk: %q", w.onDisk())
				}
				// With nothing to lose it is tried again after a while.
				w.questions()
				time.Sleep(retryFirst + time.Second)
				refusal(t, w.apply(d, content), reason)
				if w.questions() == "" {
					t.Error("not tried again")
				}
				w.mustApply(d, "good")
				w.inForce("good")
			})
		})
	}
}

func TestRefusalIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.driver()
		w.mustApply(d, "good")
		refusal(t, w.apply(d, "rejected"), observed.Rejected)
		w.questions()

		w.version = "2"
		refusal(t, w.apply(d, "rejected"), observed.Rejected)
		if w.questions() != "validate" {
			t.Error("another version of the program was not asked")
		}
		if err := d.Forget(t.Context(), unitUnderTest); err != nil {
			t.Fatal(err)
		}
		refusal(t, w.apply(d, "rejected"), observed.Rejected)
		if w.questions() != "validate" {
			t.Error("not asked after Forget")
		}
	})
}

// A kill -9 by somebody within the first seconds looks as if the content were bad:
// it gets one more trial. A program that dies again of it settles the matter.
func TestDeathIsTriedTwice(t *testing.T) {
	for _, again := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			d := w.driver()
			w.mustApply(d, "good")
			content := "dies"
			if !again {
				content = "better"
				time.AfterFunc(time.Second, func() { w.systemd.Die(unitUnderTest, true, "killed") })
			}
			refusal(t, w.apply(d, content), observed.RolledBack)
			w.inForce("good")
			time.Sleep(retryDeath)
			if !again {
				w.mustApply(d, content)
				w.inForce("better")
				return
			}
			refusal(t, w.apply(d, content), observed.RolledBack)
			w.inForce("good")
			w.questions()
			time.Sleep(1000 * time.Hour)
			refusal(t, w.apply(d, content), observed.RolledBack)
			if asked := w.questions(); asked != "" {
				t.Errorf("tried a third time: %s", asked)
			}
		})
	}
}

// While new content is refused, what is in force is still guarded.
func TestDriftIsRepairedWhileRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.driver()
		w.mustApply(d, "good")
		refusal(t, w.apply(d, "rejected"), observed.Rejected)
		if err := w.systemd.Stop(t.Context(), unitUnderTest); err != nil {
			t.Fatal(err)
		}
		refusal(t, w.apply(d, "rejected"), observed.Rejected)
		w.inForce("good")
	})
}

// Silence after the swap is Unknown: nothing is undone, and when the program
// speaks again it is asked, not reloaded a second time.
func TestNoAnswerIsReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.driver()
		w.mustApply(d, "good")
		d.step = func(step string) {
			if step == "before prove" {
				w.silent = true
			}
		}
		refusal(t, w.apply(d, "new"), observed.NotAnswering)
		if w.onDisk() != "new" {
			t.Error("an unanswered question undid the change")
		}
		if diff, err := d.Diff(t.Context(), w.unit("new")); err != nil || diff.Empty() {
			t.Errorf("diff: %v, %v", diff, err)
		}
		w.silent = false
		w.questions()
		d.step = func(string) {}
		w.mustApply(w.driver(), "new")
		if asked := w.questions(); asked != "prove" {
			t.Errorf("asked %q", asked)
		}
		w.inForce("new")

		// A program that can't be told at all is told again.
		w.silent = true
		refusal(t, w.apply(d, "newer"), observed.NotAnswering)
		w.silent = false
		w.mustApply(d, "newer")
		w.inForce("newer")
	})
}

// A cancelled agent leaves the rest to the next one, which doesn't reload again.
func TestEndOfAgentDuringSurvival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.driver()
		w.mustApply(d, "good")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Apply(ctx, w.unit("new"), 1); err == nil {
			t.Fatal("proven in less time than it must survive")
		}
		w.questions()
		w.mustApply(w.driver(), "new")
		if asked := w.questions(); asked != "prove" {
			t.Errorf("asked %q", asked)
		}
		w.inForce("new")
	})
}

// A program that dies while no agent watches is still rolled back.
func TestDeathWhileAgentIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.restart = false
		w.mustApply(w.driver(), "good")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.driver().Apply(ctx, w.unit("dies"), 1); err == nil {
			t.Fatal("proven in less time than it must survive")
		}
		time.Sleep(time.Minute)
		refusal(t, w.apply(w.driver(), "dies"), observed.RolledBack)
		w.inForce("good")
	})
}

// A person's stop in the middle is no death: HAProxy is started again and proven,
// Patroni is left to that person.
func TestStoppedWhileBeingProven(t *testing.T) {
	for _, patroni := range []bool{false, true} {
		for _, before := range []string{"", "good"} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.restart = !patroni
				d := w.driver()
				if before != "" {
					w.mustApply(d, before)
				}
				time.AfterFunc(time.Second, func() {
					if err := w.systemd.Stop(context.Background(), unitUnderTest); err != nil {
						t.Error(err)
					}
				})
				refusal(t, w.apply(d, "new"), observed.NotAnswering)
				if patroni {
					w.systemd.Acts()
					refusal(t, w.apply(d, "new"), observed.Stopped)
					if acts := w.systemd.Acts(); len(acts) != 0 {
						t.Errorf("acts: %v", acts)
					}
					if err := w.systemd.Start(t.Context(), unitUnderTest); err != nil {
						t.Fatal(err)
					}
				}
				w.mustApply(d, "new")
				w.inForce("new")
			})
		}
	}
}
