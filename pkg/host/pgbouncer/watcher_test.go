package pgbouncer

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// watching runs a watcher on the rig's PgBouncer and waits until it is up.
func (r *rig) watching() (w *Watcher, changed chan struct{}) {
	r.t.Helper()
	w = NewWatcher(filepath.Join(r.dir, "run/pg"), nil)
	changed = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	r.t.Cleanup(func() { cancel(); <-done })
	r.until(changed, 5*time.Second, func() bool { return w.Last().Up })
	return w, changed
}

// until waits for news until what is wanted is so, and returns how long it took.
func (r *rig) until(changed chan struct{}, within time.Duration, so func() bool) time.Duration {
	r.t.Helper()
	began := time.Now()
	late := time.After(within)
	for !so() {
		select {
		case <-changed:
		case <-late:
			r.t.Fatalf("not so after %s", within)
		}
	}
	return time.Since(began)
}

// TestDeadOrStopped: what is measured here, plus a write to etcd and a command to
// HAProxy, has 100 ms.
func TestDeadOrStopped(t *testing.T) {
	r := newRig(t)
	if err := r.apply(r.unit()); err != nil {
		t.Fatal(err)
	}
	w, changed := r.watching()
	down := func() bool { return w.Last().Known && !w.Last().Up }

	began := time.Now()
	if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.until(changed, time.Second, down)
	t.Logf("stopped: noticed after %s: %s", time.Since(began), w.Last().Why)
	if !strings.Contains(w.Last().Why, "stopped") {
		t.Errorf("says %q", w.Last().Why)
	}
	if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	t.Logf("continued: noticed after %s", r.until(changed, 3*time.Second, func() bool { return w.Last().Up }))

	began = time.Now()
	r.kill(syscall.SIGKILL)
	t.Logf("killed: noticed after %s", r.until(changed, time.Second, down)+time.Since(began))
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("started: noticed after %s", r.until(changed, 3*time.Second, func() bool { return w.Last().Up }))
}

// TestPausedByHand: back within a second (R9), however it was paused.
func TestPausedByHand(t *testing.T) {
	r := newRig(t)
	if err := r.apply(r.unit()); err != nil {
		t.Fatal(err)
	}
	w, changed := r.watching()
	for _, c := range []struct{ command, what, was string }{
		{"PAUSE app", "database app", "paused"},
		{"DISABLE app", "database app", "disabled"},
	} {
		r.ask(c.command)
		took := r.until(changed, time.Second, func() bool {
			for _, d := range r.ask("SHOW DATABASES") {
				if d["name"] == "app" && (d["paused"] == "1" || d["disabled"] == "1") {
					return false
				}
			}
			return true
		})
		found := w.Repairs()
		if len(found) != 1 || found[0].What != c.what || found[0].Was != c.was {
			t.Errorf("%s: repairs %v", c.command, found)
		}
		t.Logf("%s: ended after %s", c.command, took)
	}
	// 1.18 does not show a pause of everything; a client that waits does.
	r.ask("PAUSE")
	client := exec.Command("psql", "-X", "-h", "127.0.0.1", "-p", r.shows("listen_port"), "-U", "pgctrl_pooler", "-d", "app", "-c", "select 1")
	client.Env = []string{"PGPASSWORD=hushhush", "PATH=/usr/bin"}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	took := r.until(changed, 2*time.Second, func() bool { return len(w.Repairs()) > 0 })
	t.Logf("PAUSE: ended after %s", took)
	_ = client.Process.Kill()
	_ = client.Wait()

	// A database that nobody named and that has no connection is shown nowhere; paused
	// it stays, for the client that comes next.
	r.ask("PAUSE other")
	other := exec.Command("psql", "-X", "-h", "127.0.0.1", "-p", r.shows("listen_port"), "-U", "pgctrl_pooler", "-d", "other", "-c", "select 1")
	other.Env = client.Env
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	r.until(changed, 2*time.Second, func() bool { return len(w.Repairs()) > 0 })
	_ = other.Process.Kill()
	_ = other.Wait()

	w.HandsOff(true)
	r.ask("PAUSE app")
	select {
	case <-changed:
		t.Errorf("frozen, and repaired all the same: %v", w.Repairs())
	case <-time.After(3 * askEvery):
	}
	if said, err := Resume(context.Background(), filepath.Join(r.dir, "run/pg")); err != nil || len(said) != 1 {
		t.Errorf("Resume: %v, %v", said, err)
	}
}
