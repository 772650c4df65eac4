package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestHeartbeat(t *testing.T) {
	s := newServer(t)
	s.write("postgresql.auto.conf", s.settings()+"archive_mode = on\narchive_command = 'test ! -e "+s.data()+"/away'\nautovacuum = off\n")
	s.start()
	ctx := t.Context()
	first, _, err := s.cfg.Heartbeat(ctx, "verify-1")
	if err != nil || time.Since(first) > time.Minute {
		t.Fatal(first, err)
	}
	r, err := s.cfg.Recovered(ctx, "verify-1")
	if err != nil || !r.Heartbeat.Equal(first) || r.Timeline != 1 || r.System == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := s.cfg.Recovered(ctx, "verify-2"); err != nil || !r.Heartbeat.IsZero() {
		t.Fatalf("%+v, %v", r, err)
	}
	// Again under the same id: the row is the newer one.
	again, _, err := s.cfg.Heartbeat(ctx, "verify-1")
	if err != nil || !again.After(first) {
		t.Fatal(first, again, err)
	}
	// However many there are, few are kept, the newest.
	for i := range HeartbeatsKept + 3 {
		if _, _, err := s.cfg.Heartbeat(ctx, fmt.Sprintf("verify-x%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.ask("select count(*) || ' ' || min(id) from pgctrl.heartbeat where id like 'verify-x%'"); n != fmt.Sprintf("%d verify-x10", HeartbeatsKept) {
		t.Errorf("kept: %s", n)
	}
	t.Run("what a loss would cost", func(t *testing.T) {
		archived := func() {
			t.Helper()
			_, segment, err := s.cfg.SwitchWAL(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for {
				if done, err := s.cfg.Archived(ctx, segment); err != nil {
					t.Fatal(err)
				} else if done {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		lag := func() time.Duration {
			t.Helper()
			_, d, err := s.cfg.Heartbeat(ctx, "verify-lag")
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		archived()
		if d := lag(); d != 0 {
			t.Errorf("the archive has all, and is %s behind", d)
		}
		// From now on it has not; marks are as old as a test says, not as old as it waits.
		s.sh("find", s.data()+"/pg_wal/archive_status", "-name", "*.done", "-exec", "touch", "-d", "1 hour ago", "{}", "+")
		if d := lag(); d < time.Hour || d > 2*time.Hour {
			t.Errorf("one unarchived write after an hour: %s", d)
		}
		// An archive that is away is further behind with every segment, not with the last alone.
		s.write("away", "")
		if _, _, err := s.cfg.SwitchWAL(ctx); err != nil {
			t.Fatal(err)
		}
		if d := lag(); d < time.Hour || d > 2*time.Hour {
			t.Errorf("one segment that waits: %s", d)
		}
	})
	t.Run("a schema of somebody else's", func(t *testing.T) {
		s.exec("drop schema pgctrl cascade; create role other; create schema pgctrl authorization other")
		if _, _, err := s.cfg.Heartbeat(ctx, "verify-1"); !errors.Is(err, ErrNotOurs) {
			t.Error(err)
		}
	})
}
