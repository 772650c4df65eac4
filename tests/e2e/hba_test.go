package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// guest is a role that comes over the network with its own password.
const guest = "hba_guest"

// asGuest connects to a node's PostgreSQL as guest.
func asGuest(ctx context.Context, h *lab.Host) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return pgx.Connect(ctx, fmt.Sprintf("host=%s port=5432 user=%s password=let-me-in dbname=postgres sslmode=prefer", h.IP, guest))
}

// mayLogIn says whether guest gets in on every node; anything between is an error.
func mayLogIn(ctx context.Context, want bool) error {
	for _, h := range hosts.Nodes {
		conn, err := asGuest(ctx, h)
		if err == nil {
			_ = conn.Close(ctx)
		}
		var pg *pgconn.PgError
		rejected := errors.As(err, &pg) && pg.Code == "28000"
		if want && err != nil || !want && !rejected {
			return fmt.Errorf("on %s: %v", h.Name, err)
		}
	}
	return nil
}

// sqlOn runs SQL as the superuser over a node's socket.
func sqlOn(ctx context.Context, t *testing.T, h *lab.Host, sql string) string {
	t.Helper()
	out, err := h.Exec(ctx, "runuser", "-u", "postgres", "--", "psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql)
	if err != nil {
		t.Fatalf("%s on %s: %v", sql, h.Name, err)
	}
	return strings.TrimSpace(out)
}

func leading(ctx context.Context, t *testing.T) *lab.Host {
	t.Helper()
	return hosts.Node(must[string](t)(hosts.Leader(ctx, cluster)))
}

// TestHBARules: a rule is in force on every node when the command returns, by a reload
// that cuts nobody, one node at a time; one that PostgreSQL refuses is taken back with
// PostgreSQL's words, and names the document.
func TestHBARules(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	sqlOn(ctx, t, leading(ctx, t), "drop role if exists "+guest+"; create role "+guest+" login password 'let-me-in'")
	t.Cleanup(func() { sqlOn(context.Background(), t, leading(context.Background(), t), "drop role if exists "+guest) })
	ok(t, fleet.Until(ctx, 10*time.Second, "the role on every node", func(ctx context.Context) error { return mayLogIn(ctx, true) }))

	standing := must[*pgx.Conn](t)(asGuest(ctx, hosts.Nodes[1]))
	defer standing.Close(ctx)
	from := must[int64](t)(revision(ctx))
	start := time.Now()
	must[string](t)(hosts.Pgctrl(ctx, "hba", "add", cluster, "no-guest", "order=100", "users=["+guest+"]", "addresses=[all]", "method=reject"))
	t.Logf("hba add returned after %s", time.Since(start).Round(time.Millisecond))
	if err := mayLogIn(ctx, false); err != nil {
		t.Errorf("when the command returned the rule was not in force: %v", err)
	}
	if _, err := standing.Exec(ctx, "select 1"); err != nil {
		t.Errorf("a session that was there before was cut: %v", err)
	}
	oneAtATime(ctx, t, from, "postgres")
	if out := must[string](t)(hosts.Pgctrl(ctx, "hba", "list", cluster)); !strings.Contains(out, cluster+"/hba/no-guest") {
		t.Errorf("hba list does not say where the rule is from:\n%s", out)
	}
	must[string](t)(hosts.Pgctrl(ctx, "hba", "remove", cluster, "no-guest"))
	ok(t, mayLogIn(ctx, true))

	// PostgreSQL itself refuses: the option belongs to other methods.
	bad := hosts.Layout.ClusterDoc(cluster, "hba/bad")
	ok(t, hosts.Put(ctx, bad, "order: 1\nusers: ["+guest+"]\naddresses: [all]\noptions: {map: x}\n"))
	statusSays(ctx, t, "RolledBack", bad, `authentication option "map" is only valid for authentication methods`)
	for _, h := range hosts.Nodes {
		if out := must[string](t)(h.Exec(ctx, "sh", "-c", "grep -c hba/bad /var/lib/postgresql/*/"+cluster+"/pg_hba.conf /etc/patroni/"+cluster+".yml || true")); strings.Count(out, ":0\n") != 2 {
			t.Errorf("want it in neither of two files on %s:\n%s", h.Name, out)
		}
		if n := sqlOn(ctx, t, h, "select count(*) from pg_hba_file_rules where error is not null"); n != "0" {
			t.Errorf("%s: PostgreSQL would not start with its pg_hba.conf: %s errors", h.Name, n)
		}
	}
	ok(t, mayLogIn(ctx, true))
	restore(ctx, t, bad, "")
	statusReady(ctx, t)
}

// revision is etcd's.
func revision(ctx context.Context) (int64, error) {
	r, err := hosts.Etcd.Get(ctx, hosts.Layout.StoreKey())
	if err != nil {
		return 0, err
	}
	return r.Header.Revision + 1, nil
}
