package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestStreaming: a replica that runs does not stream before its slot exists, also
// in the moments in which its WAL receiver calls itself streaming; it does
// afterwards, and no longer once the leader is gone.
func TestStreaming(t *testing.T) {
	primary := newServer(t)
	primary.start()
	replica := primary.replica("absent")
	replica.start()
	w, r := replica.watch()

	_, _, at := r.wait(t, 0, "a replica", func(s State) bool { return s.Reachable && s.InRecovery })
	said, counted := replica.lookHard(2 * time.Second)
	t.Logf("while the slot is absent: %d looks found status streaming, %d counted as streaming", said, counted)
	if counted > 0 {
		t.Errorf("%d looks took a receiver without a slot for one that streams", counted)
	}
	if now, err := w.Now(t.Context()); err != nil || now.Streaming {
		t.Errorf("without its slot: %+v %v", now, err)
	}

	primary.exec("select pg_create_physical_replication_slot('absent')")
	made := time.Now()
	_, seen, at := r.wait(t, at, "streaming", func(s State) bool { return s.Streaming })
	t.Logf("streaming reported %.0f ms after the slot was made", ms(seen.Sub(made)))

	own, other := primary.state(), replica.state()
	if own.Data == 0 || other.Data == 0 || own.System != other.System {
		t.Errorf("data of the primary %+v, of the replica %+v", own, other)
	}
	replica.sh("touch", "-d", "@1700000000", replica.data()+"/PG_VERSION", replica.data()+"/backup_label.old") // as a copy of another time has them
	if now := replica.state(); now.Data != 1700000000 {
		t.Errorf("a data directory that was copied anew looks the same: %+v", now)
	}

	primary.stop("immediate")
	r.wait(t, at, "the leader gone", func(s State) bool { return s.Reachable && s.InRecovery && !s.Streaming && s.RecoveryTimeline == 1 })

	primary.start()
	_, _, at = r.wait(t, at, "streaming again", func(s State) bool { return s.Streaming })
	primary.stop("fast")
	replica.exec("select pg_promote(false)")
	if s, _, _ := r.wait(t, at, "promotion", State.TakesWrites); s.Streaming {
		t.Errorf("a primary streams: %+v", s)
	}
}

// TestPromotionBrokenOff: the history file of a promotion that wrote no WAL binds the
// replica to a timeline that its leader never had; the control file does not say so.
func TestPromotionBrokenOff(t *testing.T) {
	primary := newServer(t)
	primary.start()
	replica := primary.replica("r")
	primary.exec("select pg_create_physical_replication_slot('r')")
	replica.start()
	w, r := replica.watch()
	_, _, at := r.wait(t, 0, "streaming", func(s State) bool { return s.Streaming })

	primary.stop("immediate")
	_, _, at = r.wait(t, at, "the leader gone", func(s State) bool { return s.InRecovery && s.RecoveryTimeline == 1 })
	replica.write("pg_wal/00000002.history", "1\t"+replica.ask("select pg_last_wal_replay_lsn()::text")+"\tno recovery target specified\n")
	r.wait(t, at, "along timeline 2", func(s State) bool { return s.InRecovery && s.RecoveryTimeline == 2 })

	replica.says("new target timeline is 2")
	primary.start()
	replica.says("highest timeline 1 of the primary is behind recovery timeline 2")
	if s, err := w.Now(t.Context()); err != nil || s.Streaming || s.RecoveryTimeline != 2 {
		t.Errorf("behind a leader on timeline 1: %+v %v", s, err)
	}
}

// TestRewound: a former primary that was rewound has data of another time, though
// pg_rewind leaves PG_VERSION as it is.
func TestRewound(t *testing.T) {
	old := newServer(t)
	old.write("postgresql.auto.conf", old.settings()+"wal_log_hints = on\nwal_keep_size = 128MB\n")
	old.start()
	other := old.replica("r")
	old.exec("select pg_create_physical_replication_slot('r')")
	other.start()
	other.exec("select pg_promote()")
	other.exec("checkpoint")
	old.exec("create table public.diverged()")
	old.sh("touch", "-d", "@1700000000", old.data()+"/PG_VERSION")
	before := old.state()
	old.stop("fast")
	old.run("pg_rewind", "--target-pgdata", old.data(), "--no-sync", "--source-server", fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", other.dir, other.cfg.Port))
	old.write("standby.signal", "")
	old.write("postgresql.auto.conf", old.settings())
	old.start()
	if now := old.state(); now.Data == before.Data || !now.InRecovery {
		t.Errorf("before %+v, rewound %+v", before, now)
	}
}

// says waits for a line of the server's log.
func (s *server) says(line string) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		log, err := os.ReadFile(filepath.Join(s.dir, s.sub+".log"))
		if strings.Contains(string(log), line) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("the log never says %q: %v\n%s", line, err, log)
		}
	}
}

// state is what a new connection shows.
func (s *server) state() State {
	s.t.Helper()
	w := NewWatcher(s.cfg, nil, nil)
	defer w.hangUp()
	now := w.look(s.t.Context())
	if !now.Reachable {
		s.t.Fatalf("%s does not answer", s.cfg)
	}
	return now
}

// lookHard asks in a tight loop, and counts how often the WAL receiver called
// itself streaming and how often the watcher's question took it for that.
func (s *server) lookHard(d time.Duration) (said, counted int) {
	s.t.Helper()
	err := s.cfg.withConn(s.t.Context(), func(ctx context.Context, c *pgx.Conn) error {
		for end := time.Now().Add(d); time.Now().Before(end); {
			var raw, recovery, streaming bool
			if err := c.QueryRow(ctx, question).Scan(&recovery, &streaming); err != nil {
				return err
			}
			if err := c.QueryRow(ctx, "select exists (select from pg_stat_wal_receiver where status = 'streaming')").Scan(&raw); err != nil {
				return err
			}
			if raw {
				said++
			}
			if streaming {
				counted++
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return said, counted
}
