package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/tests/fleet"
)

// way is one way in: an address or name, and a port.
type way struct {
	host string
	port int
	at   string // where the name leads to; empty: the host is an address
}

func (w way) String() string { return net.JoinHostPort(w.host, fmt.Sprint(w.port)) }

// ways are all there are: through the virtual address and past it, by address and by name.
func ways() []way {
	var out []way
	for _, port := range []int{5432, 5433, 5434, 5436, 6432} {
		out = append(out, way{vip, port, ""})
		for i, h := range hosts.Nodes {
			out = append(out, way{h.IP, port, ""}, way{h.Name, port, h.IP}, way{fmt.Sprintf("%s-%d", cluster, i+1), port, h.IP}, way{cluster, port, vip})
		}
	}
	return out
}

// tlsLogin is a role's login, and the file of the authority that it trusts.
type tlsLogin struct{ user, password, authority string }

func (l tlsLogin) connect(ctx context.Context, w way, sslmode string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	text := fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=%s", w.host, w.port, l.user, sslmode)
	if strings.HasPrefix(sslmode, "verify") {
		text += " sslrootcert=" + l.authority
	}
	c, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, err
	}
	c.Password, c.DefaultQueryExecMode = l.password, pgx.QueryExecModeSimpleProtocol
	if w.at != "" {
		c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{w.at}, nil }
	}
	return pgx.ConnectConfig(ctx, c)
}

// try logs in, asks something and goes.
func (l tlsLogin) try(ctx context.Context, w way, sslmode string) error {
	conn, err := l.connect(ctx, w, sslmode)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var one int
	return conn.QueryRow(ctx, "select 1").Scan(&one)
}

// everywhere wants every way in to take the role with this mode, or none.
func (l tlsLogin) everywhere(ctx context.Context, t *testing.T, sslmode string, in bool) {
	t.Helper()
	for _, w := range ways() {
		switch err := l.try(ctx, w, sslmode); {
		case in && err != nil:
			t.Errorf("%s with sslmode=%s: %v", w, sslmode, err)
		case !in && err == nil:
			t.Errorf("%s takes sslmode=%s", w, sslmode)
		case !in && !strings.Contains(err.Error(), "no encryption") && !strings.Contains(err.Error(), "SSL required") && !strings.Contains(err.Error(), "refused TLS"):
			t.Errorf("%s refuses sslmode=%s for another reason: %v", w, sslmode, err)
		}
	}
}

// sessions are those that stand through everything: none may be cut.
type sessions map[way]*pgx.Conn

func (l tlsLogin) stand(ctx context.Context, t *testing.T, sslmode string) sessions {
	t.Helper()
	out := sessions{}
	for _, w := range ways() {
		if w.at != "" {
			continue
		}
		conn, err := l.connect(ctx, w, sslmode)
		if err != nil {
			t.Fatalf("%s: %v", w, err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		out[w] = conn
	}
	return out
}

func (s sessions) whole(ctx context.Context, t *testing.T, after string) {
	t.Helper()
	for w, conn := range s {
		var one int
		if err := conn.QueryRow(ctx, "select 1").Scan(&one); err != nil {
			t.Errorf("after %s the session through %s is cut: %v", after, w, err)
			delete(s, w)
		}
	}
}

// untouched is what a change of TLS must leave: the programs, and their files when it is
// off again.
func untouched(ctx context.Context, t *testing.T, files bool) string {
	t.Helper()
	command := `for u in patroni pgbouncer haproxy; do systemctl show -P MainPID $u@` + cluster + `; done; pgrep -o -f '/bin/postgres -D'
cat /proc/$(systemctl show -P MainPID haproxy@` + cluster + `)/task/*/children`
	if files {
		command += `; ls /etc/patroni /etc/pgbouncer; sha256sum /etc/patroni/` + cluster + `.yml /etc/pgbouncer/` + cluster + `.*
grep -v -E '^(#|$)' /var/lib/postgresql/*/` + cluster + `/pg_hba.conf | sha256sum; grep -E '^ssl' /var/lib/postgresql/*/` + cluster + `/postgresql.conf || true`
	}
	return onHosts(ctx, t, command)
}

// streamsSecurely: every replica streams, and does so with TLS.
func streamsSecurely(ctx context.Context, t *testing.T) {
	t.Helper()
	ok(t, fleet.Until(ctx, 30*time.Second, "replicas to stream with TLS", func(ctx context.Context) error {
		leader, err := hosts.Leader(ctx, cluster)
		if err != nil {
			return err
		}
		got := sqlOn(ctx, t, hosts.Node(leader), `select count(*) filter (where state = 'streaming' and ssl), count(*) from pg_stat_replication join pg_stat_ssl using (pid)`)
		if want := fmt.Sprintf("%d|%d", len(hosts.Nodes)-1, len(hosts.Nodes)-1); got != want {
			return fmt.Errorf("%s, want %s", got, want)
		}
		return nil
	}))
}

// authorityFile is the authority's certificate as people get it.
func authorityFile(ctx context.Context, t *testing.T) string {
	t.Helper()
	text := must[string](t)(hosts.Pgctrl(ctx, "secret", "show", cluster, "tls/authority"))
	if strings.Contains(text, "PRIVATE") {
		t.Fatal("the authority's key is given out")
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	ok(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// TestTLS: on, required, renewed, moved and off again, and nobody who was connected
// notices; no program is restarted.
func TestTLS(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.Background(), "unset", cluster, "hba/secure")
		_, _ = hosts.Pgctrl(context.Background(), "unset", cluster, "postgres", "tls", "tls_names")
		statusReady(context.Background(), t)
	})
	l := tlsLogin{}
	l.user, l.password = appLogin(ctx, t)
	loginsWork(ctx, t, l.user, l.password)
	l.everywhere(ctx, t, "disable", true)
	l.everywhere(ctx, t, "require", false)
	start, programs := untouched(ctx, t, true), untouched(ctx, t, false)
	standing := l.stand(ctx, t, "disable")

	samplers := sampleAll(ctx, t, 25*time.Millisecond)
	from := must[int64](t)(revision(ctx))
	operated(ctx, t, "set", cluster, "postgres", "tls=allow")
	l.authority = authorityFile(ctx, t)
	l.everywhere(ctx, t, "verify-full", true)
	l.everywhere(ctx, t, "disable", true)
	standing.whole(ctx, t, "allow")
	oneAtATime(ctx, t, from, "postgres")
	oneAtATime(ctx, t, from, "pgbouncer")
	for i, samples := range stopAll(samplers) {
		if n := failures(samples); n > 0 {
			t.Errorf("%d of %d writes through %s failed", n, len(samples), hosts.Nodes[i].Name)
		}
	}
	secured := l.stand(ctx, t, "require")
	asPeopleDo(ctx, t, l)

	// A rule for those alone that come with TLS.
	must[string](t)(hosts.Pgctrl(ctx, "hba", "add", cluster, "secure", "order=1", "type=hostssl", "users=["+l.user+"]", "addresses=[all]", "method=reject"))
	for _, h := range hosts.Nodes {
		if err := l.try(ctx, way{h.IP, 5432, ""}, "disable"); err != nil {
			t.Errorf("%s without TLS: %v", h.Name, err)
		}
		if err := l.try(ctx, way{h.IP, 5432, ""}, "require"); err == nil || !strings.Contains(err.Error(), "28000") {
			t.Errorf("%s with TLS: %v", h.Name, err)
		}
	}
	must[string](t)(hosts.Pgctrl(ctx, "hba", "remove", cluster, "secure"))

	operated(ctx, t, "set", cluster, "postgres", "tls=require")
	l.everywhere(ctx, t, "disable", false)
	l.everywhere(ctx, t, "verify-full", true)
	standing.whole(ctx, t, "require")
	secured.whole(ctx, t, "require")
	statusReady(ctx, t)
	if got := untouched(ctx, t, false); got != programs {
		t.Errorf("programs were restarted:\n%s\nwere\n%s", got, programs)
	}
	// Connections between members that were there before are left; new ones have TLS.
	sqlOn(ctx, t, leading(ctx, t), "select pg_terminate_backend(pid) from pg_stat_replication")
	streamsSecurely(ctx, t)

	// Another name is another certificate, for new connections.
	operated(ctx, t, "set", cluster, "postgres", "tls_names=[db.example.org]")
	for _, port := range []int{5432, 5433, 5434, 5436, 6432} {
		for _, h := range hosts.Nodes {
			if err := l.try(ctx, way{"db.example.org", port, h.IP}, "verify-full"); err != nil {
				t.Errorf("a new name, through %s:%d: %v", h.Name, port, err)
			}
			if err := l.try(ctx, way{"db.example.net", port, h.IP}, "verify-full"); err == nil {
				t.Errorf("a name that nobody gave, through %s:%d, is taken", h.Name, port)
			}
		}
	}
	l.everywhere(ctx, t, "verify-full", true)
	standing.whole(ctx, t, "a renewal")
	secured.whole(ctx, t, "a renewal")
	ok(t, fleet.Until(ctx, 10*time.Second, "the older certificate to go", func(ctx context.Context) error {
		if n := len(under(ctx, t, hosts.Layout.TLSSecrets(cluster))); n != 2 { // with the authority's
			return fmt.Errorf("%d secrets", n)
		}
		return nil
	}))
	noKeyAnywhere(ctx, t)
	// The server's own status, which watchers read, is not the one that pgctrl computes.
	ok(t, fleet.Until(ctx, 10*time.Second, "the server's status to be ready", func(ctx context.Context) error {
		text, err := hosts.Get(ctx, hosts.Layout.StatusKey(cluster))
		if err == nil && !strings.Contains(text, `"ready":true`) {
			err = errors.New(text)
		}
		return err
	}))

	if got := untouched(ctx, t, false); got != programs {
		t.Errorf("programs were restarted:\n%s\nwere\n%s", got, programs)
	}
	operated(ctx, t, "unset", cluster, "postgres", "tls", "tls_names")
	l.everywhere(ctx, t, "disable", true)
	l.everywhere(ctx, t, "require", false)
	standing.whole(ctx, t, "off")
	secured.whole(ctx, t, "off")
	statusReady(ctx, t)
	if got := untouched(ctx, t, true); got != start {
		t.Errorf("it is not as at the start:\n%s\nwas\n%s", got, start)
	}
}

// TestTLSMoves: where TLS is required everything moves as ever, a member is copied anew
// over it, and clients go on to make sure of the server.
func TestTLSMoves(t *testing.T) {
	ctx := begin(t)
	leadsFirst(ctx, t)
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.Background(), "unset", cluster, "postgres", "tls")
		statusReady(context.Background(), t)
	})
	l := tlsLogin{}
	l.user, l.password = appLogin(ctx, t)
	operated(ctx, t, "set", cluster, "postgres", "tls=require")
	l.authority = authorityFile(ctx, t)
	from, to := leaderAndNext(ctx, t)
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	ok(t, fleet.Until(ctx, 20*time.Second, "a write through the virtual address", func(ctx context.Context) error {
		conn, err := l.connect(ctx, way{vip, 5433, ""}, "verify-full")
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "create temporary table moved (x int)")
		return err
	}))
	statusReady(ctx, t)
	l.everywhere(ctx, t, "verify-full", true)
	l.everywhere(ctx, t, "disable", false)
	streamsSecurely(ctx, t)
	operated(ctx, t, "reinit", cluster, cluster+"-3", "--confirm", cluster+"-3")
	statusReady(ctx, t)
	streamsSecurely(ctx, t)
	l.everywhere(ctx, t, "verify-full", true)
}

// asPeopleDo connects with psql and what pgctrl url says.
func asPeopleDo(ctx context.Context, t *testing.T, l tlsLogin) {
	t.Helper()
	ask := `psql -X -At -c "select ssl from pg_stat_ssl where pid = pg_backend_pid()" "$(pgctrl url ` + cluster + ` --service default --authority /tmp/ca.crt | sed s/postgres@/` + l.user + `@/)"`
	out, err := hosts.Infra.Exec(ctx, "sh", "-c", "PGPASSWORD='"+l.password+"' "+ask)
	if strings.TrimSpace(out) != "t" {
		t.Errorf("psql with the URL: %q %v", out, err)
	}
	out, err = hosts.Pgctrl(ctx, "psql", cluster, "-c", "copy (select ssl from pg_stat_ssl where pid = pg_backend_pid()) to stdout")
	if strings.TrimSpace(out) != "t" {
		t.Errorf("pgctrl psql: %q %v", out, err)
	}
}

// noKeyAnywhere: no private key is in a plan, a report, a status or a log (R11).
func noKeyAnywhere(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, kv := range under(ctx, t, hosts.Layout.RootPrefix()) {
		key := string(kv.Key)
		if strings.HasPrefix(key, hosts.Layout.ClusterSecrets(cluster)) || key == hosts.Layout.AuthorityKey(cluster) {
			continue
		}
		if strings.Contains(string(kv.Value), "PRIVATE KEY") {
			t.Errorf("a private key is in %s", key)
		}
	}
	for _, h := range hosts.Nodes {
		if out := must[string](t)(h.Exec(ctx, "sh", "-c", `journalctl -o cat --no-pager | grep -a 'PRIVATE KEY' || true`)); out != "" {
			t.Errorf("a private key is in a log of %s:\n%s", h.Name, out)
		}
	}
}
