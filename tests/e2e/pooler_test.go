package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// What the brief of the pooler promises: out of its services 100 ms after its socket
// closed. The machine that tests run on is shared, so only what is beyond any doubt
// fails; the log has what was measured.
const (
	outWithin = 100 * time.Millisecond
	outAtMost = time.Second
)

const poolerUnit = "pgbouncer@" + cluster

// appLogin is a login role that is in no file of any pooler.
func appLogin(ctx context.Context, t *testing.T) (user, password string) {
	t.Helper()
	user, password = "e2e_app", "s3cret of "+strconv.FormatInt(time.Now().UnixNano(), 36)
	onPrimary(ctx, t, fmt.Sprintf(`do $$ begin
  if not exists (select from pg_roles where rolname = '%s') then create role %s login; end if; end $$;
  alter role %s password '%s'; grant create on schema public to %s`, user, user, user, password, user))
	return user, password
}

func onPrimary(ctx context.Context, t *testing.T, sql string) {
	t.Helper()
	leader := must[string](t)(hosts.Leader(ctx, cluster))
	conn := must[*pgx.Conn](t)(must[probe.Target](t)(hosts.Target(ctx, cluster, hosts.Node(leader), 5432)).Connect(ctx))
	defer conn.Close(ctx)
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

// waitFor runs a shell command on a host until it succeeds.
func waitFor(ctx context.Context, t *testing.T, h *lab.Host, command string) {
	t.Helper()
	ok(t, fleet.Until(ctx, 30*time.Second, command+" on "+h.Name, func(ctx context.Context) error {
		_, err := h.Exec(ctx, "sh", "-c", command)
		return err
	}))
}

// loginsWork: the user gets in by every way there is, to the server it should reach.
func loginsWork(ctx context.Context, t *testing.T, user, password string) {
	t.Helper()
	ok(t, fleet.Until(ctx, 20*time.Second, user+" to log in everywhere", func(ctx context.Context) error {
		leader, err := hosts.Leader(ctx, cluster)
		if err != nil {
			return err
		}
		for _, h := range hosts.Nodes {
			for _, way := range []struct {
				port     int
				recovery bool
			}{{5433, false}, {5434, true}, {5436, false}, {6432, h != hosts.Node(leader)}, {5432, h != hosts.Node(leader)}} {
				got, err := login(ctx, h, way.port, user, password, "postgres", "select pg_is_in_recovery()::text")
				if err != nil {
					return fmt.Errorf("%s:%d: %w", h.Name, way.port, err)
				}
				if got != strconv.FormatBool(way.recovery) {
					return fmt.Errorf("%s:%d: in recovery %s, expected %t", h.Name, way.port, got, way.recovery)
				}
			}
		}
		return nil
	}))
	for _, h := range hosts.Nodes {
		for _, port := range []int{5433, 5434, 6432} {
			if _, err := login(ctx, h, port, user, password+"x", "postgres", "select 'in'"); err == nil || !strings.Contains(err.Error(), "authentication failed") {
				t.Errorf("%s:%d lets a wrong password in: %v", h.Name, port, err)
			}
		}
	}
}

// TestPoolerLogins: through the services and past them, before and after a switchover
// and a restart of PostgreSQL, and with a new password of the pooler's own role.
func TestPoolerLogins(t *testing.T) {
	ctx := begin(t)
	user, password := appLogin(ctx, t)
	loginsWork(ctx, t, user, password)
	from, to := leaderAndNext(ctx, t)
	start := time.Now()
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	loginsWork(ctx, t, user, password)
	t.Logf("every login again %s after the switchover was asked for", time.Since(start))
	ok(t, hosts.Whole(ctx, cluster, time.Minute))

	must[string](t)(hosts.Node(to).Exec(ctx, "sh", "-c",
		`curl -sS --fail-with-body -m 60 -u patroni:`+must[string](t)(hosts.Get(ctx, hosts.Layout.Secret(cluster, "patroni")))+` -X POST -d '{}' http://127.0.0.1:8008/restart`))
	loginsWork(ctx, t, user, password)

	ok(t, hosts.Put(ctx, hosts.Layout.Secret(cluster, "pooler"), "another-5d41402a"))
	for _, h := range hosts.Nodes {
		waitFor(ctx, t, h, `grep -q another-5d41402a /etc/pgbouncer/`+cluster+`.users`)
		must[string](t)(h.Exec(ctx, "sh", "-c", `runuser -u postgres -- psql -X -h /run/pgbouncer-pgctrl/`+cluster+` -p 6432 -U pgbouncer pgbouncer -c 'RECONNECT'`))
	}
	statusReady(ctx, t)
	loginsWork(ctx, t, user, password)
	if _, err := hosts.Infra.Exec(ctx, "sh", "-c", "pgctrl status "+cluster+" | grep POOLER"); err != nil {
		t.Error("status does not show poolers")
	}
}

// outAfter does something to a pooler and returns how long after that every node's
// agent had told its HAProxy, by the machine's one clock. That HAProxy has the server
// down then is looked at beside it, by programs that take longer than what is measured.
func outAfter(ctx context.Context, t *testing.T, backend, member, act string) map[string]time.Duration {
	t.Helper()
	victim := hosts.Node(member)
	// One shell on each host looks every 5 ms; hosts share the machine's clock. A server that was
	// down for less than it takes to look has changed since all the same.
	look := strings.ReplaceAll(fmt.Sprintf(`S=$(date +%%s); for i in $(seq 2000); do
  if test "%s" = 0; then exit 0; fi; sleep 0.005; done
test "%s" -lt $(($(date +%%s) - S))`, server(backend, member, 6), server(backend, member, 10)), "$C", cluster)
	found := make(chan error, len(hosts.Nodes))
	for _, h := range hosts.Nodes {
		go func() {
			_, err := h.Exec(ctx, "sh", "-c", look)
			found <- err
		}()
	}
	out := must[string](t)(victim.Exec(ctx, "bash", "-c", `P=$(systemctl show -P MainPID `+poolerUnit+`); sleep 0.5; echo $EPOCHREALTIME; `+act))
	seconds, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	ok(t, err)
	began := time.UnixMicro(int64(seconds * 1e6))
	for range hosts.Nodes {
		if err := <-found; err != nil {
			t.Fatalf("a node still leads to %s: %v", member, err)
		}
	}
	took := map[string]time.Duration{}
	for _, h := range hosts.Nodes {
		took[h.Name] = assertedAfter(ctx, t, h, began)
	}
	return took
}

// assertedAfter is how long after a moment the node's agent had asserted other routes.
func assertedAfter(ctx context.Context, t *testing.T, h *lab.Host, began time.Time) time.Duration {
	t.Helper()
	var at time.Time
	// The journal takes a moment to be readable.
	ok(t, fleet.Until(ctx, 5*time.Second, h.Name+" to log that it asserted routes", func(ctx context.Context) error {
		log, err := h.Exec(ctx, "journalctl", "-u", "pgagent", "-o", "cat", "--since", fmt.Sprintf("@%d", began.Unix()))
		if err != nil {
			return err
		}
		for line := range strings.Lines(log) {
			var entry struct {
				TS    string `json:"ts"`
				Msg   string `json:"msg"`
				Moves int    `json:"moves"`
			}
			if json.Unmarshal([]byte(line), &entry) != nil || entry.Msg != "routes asserted" || entry.Moves == 0 {
				continue
			}
			if at, err = time.Parse("2006-01-02T15:04:05.000Z0700", entry.TS); err != nil || at.After(began) {
				return err
			}
		}
		return fmt.Errorf("it says:\n%s", log)
	}))
	return at.Sub(began)
}

// TestPoolerDeadOrStopped: a pooler that died or stands still leaves its services at
// once, on every node, and comes back by itself.
func TestPoolerDeadOrStopped(t *testing.T) {
	ctx := begin(t)
	leader, next := leaderAndNext(ctx, t)
	t.Cleanup(func() {
		for _, h := range hosts.Nodes {
			_, _ = h.Exec(context.Background(), "systemctl", "kill", "--signal=CONT", poolerUnit)
		}
		statusReady(context.Background(), t)
	})
	samplers := []*probe.Sampler{}
	for i := range hosts.Nodes {
		samplers = append(samplers, probe.Start(ctx, service(ctx, t, i, 5433), 25*time.Millisecond, 25, nil))
	}
	for _, c := range []struct{ what, backend, member, act, after string }{
		{"the primary's killed", "primary", leader, `kill -9 $P`, ""},
		{"a replica's killed", "replica", next, `kill -9 $P`, ""},
		{"the primary's stopped by a signal", "primary", leader, `kill -STOP $P`,
			`kill -CONT $(systemctl show -P MainPID ` + poolerUnit + `)`},
		{"a replica's stopped by a signal", "replica", next, `kill -STOP $P`,
			`kill -CONT $(systemctl show -P MainPID ` + poolerUnit + `)`},
	} {
		for node, took := range outAfter(ctx, t, c.backend, c.member, c.act) {
			t.Logf("%s: out of %s on %s after %s", c.what, c.backend, node, took)
			if took > outAtMost {
				t.Errorf("%s: out of %s on %s after %s, promised are %s", c.what, c.backend, node, took, outWithin)
			}
		}
		if c.after != "" {
			must[string](t)(hosts.Node(c.member).Exec(ctx, "sh", "-c", c.after))
		}
		back := time.Now()
		for _, h := range hosts.Nodes {
			waitFor(ctx, t, h, fmt.Sprintf(`test "%s" = 2`, strings.ReplaceAll(server(c.backend, c.member, 6), "$C", cluster)))
		}
		t.Logf("%s: back on every node %s later", c.what, time.Since(back))
	}
	for i, samples := range stopAll(samplers) {
		counts := probe.Count(samples)
		t.Logf("writes through %s:5433: %v", hosts.Nodes[i].Name, counts)
		if counts[probe.Replica] > 0 || counts[probe.Written] == 0 {
			t.Errorf("through %s: %v", hosts.Nodes[i].Name, counts)
		}
	}
}

// TestR9Poolers: what people stop at a pooler's console, or the pooler itself, works
// again within the second.
func TestR9Poolers(t *testing.T) {
	ctx := begin(t)
	primary, _ := leaderAndNext(ctx, t)
	console := `runuser -u postgres -- psql -X -At -h /run/pgbouncer-pgctrl/$C -p 6432 -U pgbouncer pgbouncer -c `
	running := `systemctl is-active --quiet pgbouncer@$C`
	for _, d := range []drift{
		{"one database paused", console + `'PAUSE postgres'`, `! ` + console + `'SHOW DATABASES' | grep '^postgres|' | cut -d'|' -f12 | grep -q 1`},
		{"everything paused", console + `PAUSE`, `PGPASSWORD=` + must[string](t)(hosts.Get(ctx, hosts.Layout.Secret(cluster, "postgres"))) + ` psql -X -h 127.0.0.1 -p 6432 -U postgres postgres -c 'select 1' >/dev/null`},
		{"PgBouncer stopped", `systemctl stop pgbouncer@$C`, running},
		{"its file changed", `echo '; drifted' >> /etc/pgbouncer/$C.ini`, `! grep -q drifted /etc/pgbouncer/$C.ini`},
	} {
		took, err := d.do(ctx, hosts.Node(primary))
		if err != nil {
			t.Errorf("%s: %v", d.what, err)
			continue
		}
		t.Logf("%s: stood for %s", d.what, took)
		if took > repairedAtMost {
			t.Errorf("%s: stood for %s, promised is %s", d.what, took, repairedWithin)
		}
	}
	statusReady(ctx, t)
}

// TestR5BadPoolerDocument: a value that PgBouncer or the schema refuses changes
// nothing on any host, however it was written.
func TestR5BadPoolerDocument(t *testing.T) {
	ctx := begin(t)
	key := hosts.Layout.ClusterDoc(cluster, "pgbouncer")
	t.Cleanup(func() {
		_, _ = hosts.Etcd.Delete(context.Background(), key)
		statusReady(context.Background(), t)
	})
	before := map[string]string{}
	for _, h := range hosts.Nodes {
		before[h.Name] = must[string](t)(h.Exec(ctx, "sh", "-c", "sha256sum /etc/pgbouncer/"+cluster+".ini; systemctl show -P MainPID "+poolerUnit))
	}
	ok(t, hosts.Put(ctx, key, "pool_mode: pooled"))
	ok(t, fleet.Until(ctx, 20*time.Second, "status to say so", func(ctx context.Context) error {
		out, err := hosts.Pgctrl(ctx, "status", cluster)
		if out += fmt.Sprint(err); !strings.Contains(out, string(observed.InvalidDocument)) || !strings.Contains(out, "pool_mode") {
			return errors.New(out)
		}
		return nil
	}))
	for _, h := range hosts.Nodes {
		if after := must[string](t)(h.Exec(ctx, "sh", "-c", "sha256sum /etc/pgbouncer/"+cluster+".ini; systemctl show -P MainPID "+poolerUnit)); after != before[h.Name] {
			t.Errorf("%s: %s, was %s", h.Name, after, before[h.Name])
		}
	}
	// And one that is taken is in force without a restart.
	ok(t, hosts.Put(ctx, key, "default_pool_size: 33"))
	for _, h := range hosts.Nodes {
		waitFor(ctx, t, h, `runuser -u postgres -- psql -X -At -h /run/pgbouncer-pgctrl/`+cluster+` -p 6432 -U pgbouncer pgbouncer -c 'SHOW CONFIG' | grep -q '^default_pool_size|33'`)
		if after := must[string](t)(h.Exec(ctx, "systemctl", "show", "-P", "MainPID", poolerUnit)); !strings.HasSuffix(before[h.Name], after) {
			t.Errorf("%s: PgBouncer was restarted", h.Name)
		}
	}
}
