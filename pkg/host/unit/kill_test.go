package unit

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// killed runs f and stops the world right before its n-th instruction, as kill -9
// does: nothing of f runs afterwards, no deferred call either. It reports whether
// f came to its end before that.
func killed(w *world, n int, f func()) (ended bool) {
	dead, done := make(chan struct{}), make(chan struct{})
	count := 0
	w.kill = func() {
		if count++; count == n {
			close(dead)
			select {} // a goroutine that never goes on is as dead as it gets in a test
		}
	}
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-dead:
	case <-done:
		ended = true
	}
	w.kill = func() {}
	return ended
}

// R13: an agent killed at any instruction of a transaction, and started again,
// converges to the same end as one that was not.
func TestKilledAtEveryStep(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after string // before: in force when it starts
		want          string
		reason        observed.Reason
	}{
		{"first", "", "good", "good", ""},
		{"update", "good", "better", "better", ""},
		{"rejected", "good", "rejected", "good", observed.Rejected},
		{"rolled back", "good", "reload-refused", "good", observed.RolledBack},
		{"half applied", "good", "half-applied", "good", observed.RolledBack},
		{"first fails", "", "start-fails", "", observed.RolledBack},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n, ended := 1, false; !ended; n++ {
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					w := newWorld(t)
					w.survive = 1 // the watching is another test's business
					if c.before != "" {
						w.mustApply(w.driver(), c.before)
					}
					// A new driver as well: the dead one still holds the unit's turn.
					ended = killed(w, n, func() { _ = w.apply(w.driver(), c.after) })
					err := w.apply(w.driver(), c.after)
					if c.reason == "" {
						if err != nil {
							t.Fatal(err)
						}
					} else {
						refusal(t, err, c.reason)
					}
					w.inForce(c.want)
					if diff, err := w.driver().Diff(t.Context(), w.unit(c.after)); err != nil || diff.Empty() != (c.reason == "") {
						t.Errorf("diff %v, %v", diff, err)
					}
				})
				if n > 500 {
					t.Fatal("it never ends")
				}
			}
		})
	}
}

// The plan goes back to what it was before, or on to something else, while the
// agent is down.
func TestKilledThenOtherContent(t *testing.T) {
	for _, next := range []string{"good", "other"} {
		for n, ended := 1, false; !ended; n++ {
			t.Run(fmt.Sprint(next, n), func(t *testing.T) {
				w := newWorld(t)
				w.survive = 1
				w.mustApply(w.driver(), "good")
				ended = killed(w, n, func() { _ = w.apply(w.driver(), "reload-refused") })
				w.mustApply(w.driver(), next)
				w.inForce(next)
			})
		}
	}
}

// Removing is finished by Remove, or taken back by Apply.
func TestKilledWhileRemoving(t *testing.T) {
	for _, again := range []bool{true, false} {
		for n, ended := 1, false; !ended; n++ {
			t.Run(fmt.Sprint(again, n), func(t *testing.T) {
				w := newWorld(t)
				w.survive, w.restart = 1, false
				w.mustApply(w.driver(), "good")
				ended = killed(w, n, func() { _ = w.driver().Remove(t.Context(), w.unit("good"), 1) })
				if again {
					if err := w.driver().Remove(t.Context(), w.unit("good"), 1); err != nil {
						t.Fatal(err)
					}
					w.inForce("")
					return
				}
				// A kill before the journal took note of the removal finds a unit that still runs.
				w.mustApply(w.driver(), "good")
				w.inForce("good")
			})
		}
	}
}

// A full disk at any write: the old content is in force, and it goes on when there
// is room again.
func TestFullDiskAtEveryWrite(t *testing.T) {
	for n, failed := 1, true; failed; n++ {
		failed = false
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newWorld(t)
			w.survive = 1
			w.mustApply(w.driver(), "good")
			count := 0
			w.fault = func(step, _ string) error {
				if step != "write" && step != "create" {
					return nil
				}
				if count++; count >= n { // and it stays full
					failed = true
					return syscall.ENOSPC
				}
				return nil
			}
			err := w.apply(w.driver(), "better")
			if failed && err == nil {
				t.Error("a full disk went unnoticed")
			}
			if failed && w.getRunning() == "better" && w.onDisk() == "good" {
				t.Error("the program runs with what is not on disk")
			}
			w.fault = nil
			w.mustApply(w.driver(), "better")
			w.inForce("better")
		})
	}
}
