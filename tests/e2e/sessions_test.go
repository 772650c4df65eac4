package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// sessionDatabase has session pooling, where the others have transaction pooling.
const sessionDatabase = "in_session"

// paths are the kinds of way through the services; what becomes of a session depends on
// who holds it on the other side.
var paths = []struct {
	name, database string
	port           int
}{
	{"transaction pooling", "postgres", 5433},
	{"session pooling", sessionDatabase, 5433},
	{"past the poolers", "postgres", 5436},
}

// sessionKinds are what a session may be doing when the leader moves. Each begins it and
// returns what blocks until the session ends.
var sessionKinds = []struct {
	name  string
	begin func(ctx context.Context, c *pgconn.PgConn) (func() error, error)
}{
	{"idle", func(ctx context.Context, c *pgconn.PgConn) (func() error, error) {
		return func() error { return c.WaitForNotification(ctx) }, c.Exec(ctx, "select 1").Close()
	}},
	{"idle in transaction", func(ctx context.Context, c *pgconn.PgConn) (func() error, error) {
		return func() error { return c.WaitForNotification(ctx) }, c.Exec(ctx, "begin; insert into fates values ('transaction')").Close()
	}},
	{"a query", func(ctx context.Context, c *pgconn.PgConn) (func() error, error) {
		return func() error { return c.Exec(ctx, "insert into fates select 'query' from pg_sleep(600)").Close() }, nil
	}},
	{"COPY FROM STDIN", func(ctx context.Context, c *pgconn.PgConn) (func() error, error) {
		r, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, strings.Repeat("copy\n", 1000)) }() // the end never comes
		return func() error {
			_, err := c.CopyFrom(ctx, r, "copy fates from stdin")
			return err
		}, nil
	}},
}

// fate is what became of a session.
type fate struct {
	kind, path string
	at         time.Time
	err        error
}

// told is the fate in the words of the documentation.
func (f fate) told() string {
	var said *pgconn.PgError
	switch {
	case errors.As(f.err, &said):
		return "told " + said.Code
	case f.err != nil && !errors.Is(f.err, context.DeadlineExceeded):
		return "closed"
	}
	return "goes on"
}

// holdSessions opens a session of each kind on each path through one node.
func holdSessions(ctx context.Context, t *testing.T, through *lab.Host) <-chan fate {
	t.Helper()
	ended := make(chan fate, len(paths)*len(sessionKinds))
	for _, p := range paths {
		for _, k := range sessionKinds {
			c := connectTo(ctx, t, through, p.port, p.database)
			t.Cleanup(func() { _ = c.Close(context.Background()) })
			wait, err := k.begin(ctx, c)
			ok(t, err)
			go func() {
				err := wait()
				ended <- fate{k.name, p.name, time.Now(), err}
			}()
		}
	}
	// What the server says of them, so that none is only about to begin.
	ok(t, fleet.Until(ctx, 10*time.Second, "every session to be at what it does", func(ctx context.Context) error {
		n := sqlOn(ctx, t, leading(ctx, t), `select count(*) from pg_stat_activity where application_name = 'fates' and
			(state = 'idle in transaction' and query like 'begin;%' or state = 'active' and (query like '%pg_sleep(600)' or query like 'copy fates%'))`)
		if want := fmt.Sprint(len(paths) * 3); n != want {
			return fmt.Errorf("%s of %s are", n, want)
		}
		return nil
	}))
	return ended
}

func connectTo(ctx context.Context, t *testing.T, h *lab.Host, port int, database string) *pgconn.PgConn {
	t.Helper()
	cfg := must[*pgconn.Config](t)(pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable connect_timeout=8 application_name=fates", h.IP, port, accessUser, database)))
	cfg.Password = accessSecret
	return must[*pgconn.PgConn](t)(pgconn.ConnectConfig(ctx, cfg))
}

// documentedFates are the table of docs/SESSIONS.md for an event: by kind, then path.
func documentedFates(t *testing.T, event string) map[string]map[string]string {
	t.Helper()
	page := string(must[[]byte](t)(os.ReadFile("../../docs/SESSIONS.md")))
	_, rest, found := strings.Cut(page, "| "+event+" | ")
	head, rest, more := strings.Cut(rest, "\n")
	if !found || !more {
		t.Fatalf("docs/SESSIONS.md has no table %q", event)
	}
	columns := cells(head)
	out := map[string]map[string]string{}
	for line := range strings.Lines(rest) {
		row := cells(strings.TrimPrefix(line, "| "))
		if strings.HasPrefix(line, "|---") {
			continue
		}
		if !strings.HasPrefix(line, "|") {
			break
		}
		out[row[0]] = map[string]string{}
		for i, said := range row[1:] {
			out[row[0]][columns[i]] = said
		}
	}
	return out
}

func cells(line string) []string {
	var out []string
	for c := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(line), "|"), "|") {
		out = append(out, strings.TrimSpace(c))
	}
	return out
}

// checkFates waits for the end of every session and compares with what the
// documentation says. None may hang on, and none may have left half of its work.
func checkFates(ctx context.Context, t *testing.T, event string, ended <-chan fate, began, confirmed time.Time) {
	t.Helper()
	documented := documentedFates(t, event)
	var found []fate
	timeout := time.After(20 * time.Second)
	for range len(paths) * len(sessionKinds) {
		select {
		case f := <-ended:
			found = append(found, f)
		case <-timeout:
			t.Errorf("%s: %d sessions hang 20 s after the new primary was confirmed", event, len(paths)*len(sessionKinds)-len(found))
		}
	}
	for _, f := range found {
		t.Logf("%s: %s, %s: %s %s after the event, %s after the confirmation (%v)", event, f.kind, f.path, f.told(),
			f.at.Sub(began).Round(time.Millisecond), f.at.Sub(confirmed).Round(time.Millisecond), f.err)
		if want := documented[f.kind][f.path]; f.told() != want {
			t.Errorf("%s: %s, %s: %s, documented is %q", event, f.kind, f.path, f.told(), want)
		}
	}
	for _, database := range []string{"postgres", sessionDatabase} {
		conn := must[*pgx.Conn](t)(pgx.Connect(ctx, fmt.Sprintf("host=%s port=5436 user=%s password='%s' dbname=%s sslmode=disable", leading(ctx, t).IP, accessUser, accessSecret, database)))
		var rows int
		ok(t, conn.QueryRow(ctx, "select count(*) from fates").Scan(&rows))
		_ = conn.Close(ctx)
		if rows != 0 {
			t.Errorf("%s: %d rows of work that nobody was told is done are in %s", event, rows, database)
		}
	}
}

// TestSessionsAtAMove: what a session gets that is open through a service when the
// leader moves, as docs/SESSIONS.md says it.
func TestSessionsAtAMove(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	sessionSetup(ctx, t)
	from, to := leaderAndNext(ctx, t)
	through := thirdNode(from, to)

	ended, at := holdSessions(ctx, t, through), confirmation(ctx, t, to)
	began := time.Now()
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	checkFates(ctx, t, "Switchover", ended, began, wait(ctx, t, at, 20*time.Second))
	ok(t, hosts.Whole(ctx, cluster, time.Minute))
	statusReady(ctx, t)

	from = to
	ended = holdSessions(ctx, t, through)
	began = time.Now()
	ok(t, hosts.Node(from).PowerOff(ctx))
	ok(t, fleet.Until(ctx, time.Minute, "writes to work again", func(ctx context.Context) error {
		if one := service(ctx, t, slices.Index(hosts.Nodes, through), 5436).Once(ctx); one.Err != nil {
			return one.Err
		}
		return nil
	}))
	checkFates(ctx, t, "Crash of the host", ended, began, time.Now())
	ok(t, hosts.Node(from).Boot(ctx))
	ok(t, hosts.Whole(ctx, cluster, 3*time.Minute))
	statusReady(ctx, t)
}

// thirdNode has neither of two members.
func thirdNode(a, b string) *lab.Host {
	for _, h := range hosts.Nodes {
		if h != hosts.Node(a) && h != hosts.Node(b) {
			return h
		}
	}
	return nil
}

// sessionSetup makes the user, the database with session pooling, and the table.
func sessionSetup(ctx context.Context, t *testing.T) {
	t.Helper()
	addUser(ctx, t, accessUser, accessSecret)
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "databases/"+sessionDatabase, "owner="+accessUser))
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "pgbouncer", "databases."+sessionDatabase+".pool_mode=session"))
	t.Cleanup(func() {
		ctx := context.Background()
		_, _ = hosts.Pgctrl(ctx, "unset", cluster, "pgbouncer", "databases")
		sqlOn(ctx, t, leading(ctx, t), "drop table fates")
		_, _ = hosts.Pgctrl(ctx, "database", "remove", cluster, sessionDatabase, "--confirm", sessionDatabase)
		_, _ = hosts.Pgctrl(ctx, "user", "remove", cluster, accessUser, "--confirm", accessUser)
	})
	for _, database := range []string{"postgres", sessionDatabase} {
		h := leading(ctx, t)
		must[string](t)(h.Exec(ctx, "runuser", "-u", "postgres", "--", "psql", "-qAtX", "-d", database, "-c",
			"create table if not exists fates (what text); truncate fates; grant all on fates to "+accessUser))
	}
}

// TestPreparedStatementsThroughPoolers: a named statement of the protocol is the
// session's on PostgreSQL. With transaction pooling the next transaction may be on
// another connection: PgBouncer 1.21 and later prepare it there again, older ones don't.
func TestPreparedStatementsThroughPoolers(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	sessionSetup(ctx, t)
	version := strings.TrimSpace(must[string](t)(hosts.Nodes[0].Exec(ctx, "sh", "-c", `pgbouncer --version | sed -n 's/^PgBouncer //p'`)))
	old := strings.HasPrefix(version, "1.1") || strings.HasPrefix(version, "1.20")
	h := leading(ctx, t)
	for _, p := range paths {
		prepared := connectTo(ctx, t, h, p.port, p.database)
		_, err := prepared.Prepare(ctx, "mine", "select 'mine'", nil)
		ok(t, err)
		// Somebody else takes the connection it was prepared on.
		other := connectTo(ctx, t, h, p.port, p.database)
		ok(t, other.Exec(ctx, "begin").Close())
		_, err = prepared.ExecPrepared(ctx, "mine", nil, nil, nil).Close()
		var said *pgconn.PgError
		switch lost := errors.As(err, &said) && said.Code == "26000"; {
		case p.name == "transaction pooling" && old && !lost:
			t.Errorf("PgBouncer %s, %s: expected 26000, prepared statement does not exist; got %v", version, p.name, err)
		case (p.name != "transaction pooling" || !old) && err != nil:
			t.Errorf("PgBouncer %s, %s: %v", version, p.name, err)
		}
		_, _ = other.Close(ctx), prepared.Close(ctx)
	}
}

// TestMovesHoldNewClients: who connects through a pooler while a planned move is under
// way waits, as past the poolers, and is not told that the old primary is gone. Some
// logins are under way when it goes; their time is all that may see errors.
func TestMovesHoldNewClients(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	for range 3 {
		from, to := leaderAndNext(ctx, t)
		var samplers []*probe.Sampler
		for i := range hosts.Nodes {
			samplers = append(samplers, probe.Start(ctx, service(ctx, t, i, 5433), 20*time.Millisecond, 100, nil))
		}
		hold(ctx, time.Second)
		ok(t, hosts.Switchover(ctx, cluster, from, to))
		writesEverywhere(ctx, t, to, 15*time.Second)
		for i, samples := range stopAll(samplers) {
			var failed []probe.Sample
			said := map[string]int{}
			for _, s := range samples {
				if s.Outcome != probe.Written {
					failed = append(failed, s)
					said[fmt.Sprint(s.Err)]++
				}
			}
			if len(samples) < 80 {
				t.Errorf("only %d attempts; this proves nothing", len(samples))
			}
			if len(failed) == 0 {
				t.Logf("through %s: all of %d", hosts.Nodes[i].Name, len(samples))
				continue
			}
			first := slices.MinFunc(failed, func(a, b probe.Sample) int { return a.Start.Compare(b.Start) })
			last := slices.MaxFunc(failed, func(a, b probe.Sample) int { return a.Start.Compare(b.Start) })
			t.Logf("through %s: %d of %d failed, begun within %s: %v", hosts.Nodes[i].Name, len(failed), len(samples), last.Start.Sub(first.Start), said)
			if last.Start.Sub(first.Start) > heldAtMost {
				t.Errorf("through %s: clients were told errors for %s", hosts.Nodes[i].Name, last.Start.Sub(first.Start))
			}
		}
		ok(t, hosts.Whole(ctx, cluster, time.Minute))
		statusReady(ctx, t)
	}
}

// heldAtMost is beyond any doubt: without it clients are told errors from the old
// primary's end to the new one's confirmation, 1.3 s. By the design it is the agent's
// next attempt to reach PostgreSQL (20 ms), etcd, and every node's HAProxy: some 50 ms
// on a machine that does nothing else. The log has what was measured.
const heldAtMost = time.Second
