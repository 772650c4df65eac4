package haproxy

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestStateFileStopsLeaks: no cold start and no reload sends a connection to a
// server that starts down. The same without the file does, which proves that the
// sampler would have seen it.
func TestStateFileStopsLeaks(t *testing.T) {
	t.Parallel()
	const starts, reloads = 3, 4
	wrong := func(withFile bool) (bad, good, rounds int) {
		l := newLab(t)
		u := l.unit("m1")
		round := func(act func()) {
			stop := l.sample()
			act()
			<-time.After(700 * time.Millisecond)
			got := stop()
			if n := got["m2"] + got["m3"]; n > 0 {
				rounds++
				bad += n
			}
			good += got["m1"]
		}
		for range starts {
			l.stop()
			round(func() {
				if withFile {
					l.up(u)
				} else {
					l.start()
				}
			})
		}
		until(t, 10*time.Second, "m2 and m3 found to be no primary", func() bool {
			st, err := l.router.States(t.Context(), u)
			return err == nil && !st["primary"]["m2"].Up && !st["primary"]["m3"].Up && st["primary"]["m1"].Up
		})
		for range reloads {
			round(func() {
				if withFile {
					must(t, l.program.Reload(t.Context(), u))
					must(t, l.program.Prove(t.Context(), u))
					return
				}
				must(t, syscall.Kill(l.master.Process.Pid, syscall.SIGUSR2))
			})
		}
		l.stop()
		return bad, good, rounds
	}
	bad, good, rounds := wrong(true)
	t.Logf("with the state file: %d wrong connections in %d of %d rounds, %d right ones", bad, rounds, starts+reloads, good)
	if bad != 0 || good == 0 {
		t.Errorf("with the state file: %d wrong connections, %d right ones", bad, good)
	}
	bad, good, rounds = wrong(false)
	t.Logf("without: %d wrong connections in %d of %d rounds, %d right ones", bad, rounds, starts+reloads, good)
	if bad == 0 {
		t.Error("without the state file the sampler saw no wrong connection: it proves nothing")
	}
}

// TestDownIsALease: against a check that lies, a server stays down for as long as
// it is told so, and comes up when nobody tells it any more.
func TestDownIsALease(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.servers["m2"].well.Store(true) // lies
	u := l.unit("m1")
	l.up(u)
	samples := 0
	next := time.Now()
	during(5500*time.Millisecond, func() {
		if now := time.Now(); !now.Before(next) {
			next = now.Add(500 * time.Millisecond)
			_, err := l.router.Assert(t.Context(), u, false)
			must(t, err)
		}
		samples++
		if l.states()["primary"]["m2"].Up {
			t.Fatalf("m2 is up after %d samples", samples)
		}
	})
	t.Logf("0 of %d samples up", samples)
	released := time.Now()
	until(t, 8*time.Second, "m2 up by its checks once nobody holds it down", func() bool { return l.states()["primary"]["m2"].Up })
	t.Logf("up %.1f s after the last assertion", time.Since(released).Seconds())
}

// TestMove: a move takes one batch, counts what moved and rewrites the state file.
func TestMove(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.up(l.unit("m1"))
	c, who := l.dial()
	if who != "m1" {
		t.Fatalf("%q answers, not m1", who)
	}
	defer c.Close()

	before := time.Now()
	moves, err := l.router.Assert(t.Context(), l.unit("m2"), true)
	must(t, err)
	t.Logf("moved in %.2f ms", float64(time.Since(before).Microseconds())/1000)
	if moves != 2 {
		t.Errorf("%d servers moved, not 2", moves)
	}
	waitCut(t, c)
	if c, who := l.dial(); who != "m2" {
		t.Errorf("%q answers after the move, not m2", who)
	} else {
		c.Close()
	}
	state, err := os.ReadFile(l.router.StateFile(testUnit))
	must(t, err)
	if !strings.Contains(string(state), "primary 0 m2 - 2 ") || !strings.Contains(string(state), "primary 0 m1 - 0 ") {
		t.Errorf("state file after the move:\n%s", state)
	}
	if moves, err := l.router.Assert(t.Context(), l.unit("m2"), false); err != nil || moves != 0 {
		t.Errorf("asserted again: %d moves, %v", moves, err)
	}
}

// TestOldWorkerIsCut: a session that an old worker carries ends when its server is
// no longer the primary; one to the replica service does not.
func TestOldWorkerIsCut(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	u := l.unit("m1")
	l.up(u)
	c, who := l.dial()
	if who != "m1" {
		t.Fatalf("%q answers, not m1", who)
	}
	defer c.Close()
	must(t, l.program.Reload(t.Context(), u))
	must(t, l.program.Prove(t.Context(), u))
	p, err := showProc(t.Context(), l.router.master(testUnit))
	must(t, err)
	if len(p.Old) != 1 {
		t.Fatalf("old workers: %+v", p)
	}
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the reload ended the session: %v", err)
	}
	flip := time.Now()
	_, err = l.router.Assert(t.Context(), l.unit("m2"), true)
	must(t, err)
	waitCut(t, c)
	t.Logf("cut in the old worker %.1f ms after the flip", float64(time.Since(flip).Microseconds())/1000)
}

// TestStay: a member that takes no new clients for now keeps those it has; new ones are
// held while nobody is up and reach the next primary. The move then cuts what stayed.
func TestStay(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.write(strings.ReplaceAll(l.config(), " on-marked-down shutdown-sessions", "")) // as before poolers
	l.up(l.unit("m1"))
	c, who := l.dial()
	if who != "m1" {
		t.Fatalf("%q answers, not m1", who)
	}
	defer c.Close()
	alone := l.unit("")
	alone.Targets["primary"]["m1"] = plan.Target{Held: plan.Down, Start: plan.Down, Stay: true}
	_, err := l.router.Assert(t.Context(), alone, true)
	must(t, err)
	type answer struct {
		who string
		at  time.Time
	}
	answered := make(chan answer, 1)
	go func() {
		held, who := l.dial()
		answered <- answer{who, time.Now()}
		if held != nil {
			held.Close()
		}
	}()
	_ = c.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the session was cut: %v", err)
	}
	moved := time.Now()
	_, err = l.router.Assert(t.Context(), l.unit("m2"), true)
	must(t, err)
	if a := <-answered; a.who != "m2" || a.at.Before(moved) {
		t.Errorf("the client that was held got %q, %s after the move", a.who, a.at.Sub(moved))
	}
	waitCut(t, c)
}

func waitCut(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the session was not cut: %v", err)
	}
}

func (l *lab) staged(cfg string) unit.Staged {
	l.t.Helper()
	dir := l.t.TempDir()
	at := filepath.Join(dir, "pg.cfg")
	must(l.t, os.WriteFile(at, []byte(cfg), 0o600))
	u := l.unit("m1")
	return unit.Staged{Unit: u, Dir: dir, Paths: map[string]string{u.Files[0].Path: at}}
}

func refusal(t *testing.T, err error, reason observed.Reason, words ...string) {
	t.Helper()
	var r *plan.Refusal
	if !errors.As(err, &r) || r.Reason != reason {
		t.Fatalf("%v, not a refusal with reason %s", err, reason)
	}
	for _, w := range words {
		if !strings.Contains(r.Message, w) {
			t.Errorf("message %q does not say %q", r.Message, w)
		}
	}
	t.Logf("%v", r)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	validate := func(cfg string) error { return l.program.Validate(t.Context(), l.staged(cfg)) }
	good := l.config()
	must(t, validate(good))

	refusal(t, validate(strings.Replace(good, "fastinter", "fastintr", 1)), observed.Rejected,
		"[/etc/haproxy/pg.cfg:19]", "fastintr")
	refusal(t, validate(good+"frontend again\n    bind :"+portOf(l)+"\n    default_backend primary\n"), observed.Rejected,
		"which line 14 binds already")

	l.up(l.unit("m1"))
	must(t, validate(good)) // the port is taken, by us
	taken := l.servers["m1"].port
	refusal(t, validate(strings.Replace(good, portOf(l), itoa(taken), 1)), observed.PortInUse, itoa(taken), "pid")

	missing := NewProgram(NewRouter(Options{Binary: "haproxy-that-is-not-there"}))
	refusal(t, missing.Validate(t.Context(), l.staged(good)), observed.MissingProgram)
}

// TestProve: a reload that HAProxy did not take is seen, and so is one it did.
func TestProve(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	u := l.unit("m1")
	l.up(u)
	reload := func() error {
		must(t, l.program.Reload(t.Context(), u))
		return l.program.Prove(t.Context(), u)
	}
	must(t, reload())
	good := l.config()
	l.write(good + "    banana\n")
	refusal(t, reload(), observed.Rejected, "keeps worker")
	l.write(strings.Replace(good, portOf(l), itoa(l.servers["m1"].port), 1)) // -c would accept this
	refusal(t, reload(), observed.Rejected, "keeps worker")
	l.write(good)
	must(t, reload())
	l.stop()
	refusal(t, l.program.Reload(t.Context(), u), observed.NotAnswering)
	if _, err := l.router.Assert(t.Context(), u, false); err == nil {
		t.Error("Assert says nothing when HAProxy is gone")
	}
	if !l.program.Restart() {
		t.Error("a stopped HAProxy is drift")
	}
}

// TestFlipDuringReload: targets that change while a new worker loads are in force
// when Prove returns, although its state file had the old ones.
func TestFlipDuringReload(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.up(l.unit("m1"))
	must(t, l.program.Reload(t.Context(), l.unit("m1")))
	_, _ = l.router.Assert(t.Context(), l.unit("m2"), true) // may hit the old worker, the new one, or neither
	must(t, l.program.Prove(t.Context(), l.unit("m1")))
	if st := l.states()["primary"]; st["m1"].Up || !st["m2"].Up {
		t.Errorf("after the reload: %+v", st)
	}
}

// TestWithoutAgent: the careful state file needs nothing but the configuration.
func TestWithoutAgent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	must(t, writeState(l.router.StateFile(testUnit), Conservative(ReadRoutes(l.config()), nil)))
	l.start()
	until(t, 5*time.Second, "m1 up by its checks", func() bool {
		st, err := l.router.States(t.Context(), l.unit(""))
		if err == nil && (st["primary"]["m2"].Up || st["primary"]["m3"].Up) {
			t.Fatalf("a read-write server that is no primary was up: %+v", st)
		}
		return err == nil && st["primary"]["m1"].Up
	})
}
