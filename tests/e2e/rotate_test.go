package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/tests/fleet"
)

// passwords are all system passwords as they are now, by role.
func passwords(ctx context.Context, t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, p := range twins.All {
		for _, r := range p {
			if pw := must[string](t)(hosts.Get(ctx, hosts.Layout.Secret(cluster, r.Secret))); pw != "" {
				out[r.Role] = pw
			}
		}
	}
	out["postgres"] = must[string](t)(hosts.Get(ctx, hosts.Layout.Secret(cluster, "postgres")))
	return out
}

// processes are the programs that must not be restarted, PostgreSQL among them.
func processes(ctx context.Context, t *testing.T) string {
	t.Helper()
	out := ""
	for _, h := range hosts.Nodes {
		out += h.Name + " " + must[string](t)(h.Exec(ctx, "sh", "-c", "for u in patroni pgbouncer haproxy; do systemctl show -P MainPID $u@"+cluster+"; done | tr '\\n' ' '")) +
			sqlOn(ctx, t, h, "select pg_postmaster_start_time()") + "\n"
	}
	return out
}

// letsNobodyIn: the former passwords are no good anywhere.
func letsNobodyIn(ctx context.Context, t *testing.T, former map[string]string) {
	t.Helper()
	for role, password := range former {
		for _, h := range hosts.Nodes {
			for _, port := range []int{5432, 5436, 6432} {
				if _, err := login(ctx, h, port, role, password, "postgres", "select 'in'"); err == nil || !isRefusal(err) {
					t.Errorf("the former password of %s, %s:%d: %v", role, h.Name, port, err)
				}
			}
		}
	}
}

// refusedLogins is what PostgreSQL on any host has logged since a moment about logins of
// pgctrl's own roles that it refused, those over replication's protocol too.
func refusedLogins(ctx context.Context, t *testing.T, since time.Time) string {
	t.Helper()
	out := ""
	for _, h := range hosts.Nodes {
		out += h.Name + must[string](t)(h.Exec(ctx, "sh", "-c", fmt.Sprintf(
			` journalctl -u patroni@%s -o cat --since @%d | grep -E 'FATAL:.*"(replicator|rewind|pgctrl_)[a-z_]*"' | head -5`, cluster, since.Unix()+1)+" || true"))
	}
	if out == "pg1pg2pg3" {
		return ""
	}
	return out
}

// TestRotatePasswords: all system roles twice, in the second round with a switchover in
// the middle; nobody's login fails, replication streams, nothing is restarted, and the
// former passwords let nobody in.
func TestRotatePasswords(t *testing.T) {
	ctx := begin(t)
	user, password := appLogin(ctx, t)
	loginsWork(ctx, t, user, password)
	s := sampleLogins(ctx, t, user, password)
	clean := func(what string) {
		t.Helper()
		n, refused, other := s.since()
		t.Logf("%s: %d logins, %d refused, %d found nobody", what, n, len(refused), len(other))
		if len(refused) > 0 {
			t.Errorf("%s: refused: %s", what, strings.Join(refused[:min(len(refused), 10)], "\n"))
		}
		t.Logf("%s: nobody: %s", what, strings.Join(other[:min(len(other), 5)], "\n"))
		if len(other) > 0 && what != "with a switchover" {
			t.Errorf("%s: %s", what, strings.Join(other[:min(len(other), 10)], "\n"))
		}
		if n < 100 {
			t.Errorf("%s: %d logins are too few to say anything", what, n)
		}
	}

	// The sampler must see what it is there for.
	for _, p := range []struct{ what, sql, who string }{
		{"the monitor's password changed by hand", `alter role pgctrl_monitor password 'planted'`, "monitor on"},
		{"the pooler's role closed by hand", `alter role pgctrl_pooler nologin; select pg_terminate_backend(pid) from pg_stat_activity where usename like 'pgctrl_pooler%'`, user + " through"},
	} {
		s.since()
		ok(t, fleet.Until(ctx, 15*time.Second, "the sampler to notice "+p.what, func(context.Context) error {
			for sql := range strings.SplitSeq(p.sql, ";") {
				onPrimary(ctx, t, sql) // each a transaction of its own; the agent may repair it in between
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if !slices.ContainsFunc(append(s.refused, s.other...), func(r string) bool { return strings.Contains(r, p.who) }) {
				return fmt.Errorf("%d logins, refused: %d, other: %d %s", s.n, len(s.refused), len(s.other), strings.Join(s.other[:min(3, len(s.other))], "\n"))
			}
			return nil
		}))
		_, refused, other := s.since()
		t.Logf("planted, %s: %s", p.what, append(refused, other...)[0])
		ok(t, fleet.Until(ctx, 30*time.Second, "logins to work again", func(ctx context.Context) error {
			s.since()
			hold(ctx, time.Second)
			if _, refused, other := s.since(); len(refused)+len(other) > 0 {
				return fmt.Errorf("%d refused, %d other", len(refused), len(other))
			}
			return nil
		}))
	}

	before, ran := passwords(ctx, t), processes(ctx, t)
	s.since()
	began := time.Now()
	t.Log(operated(ctx, t, "secret", "rotate", cluster, "--all"))
	t.Logf("rotated everything in %s", time.Since(began))
	clean("at rest")
	if said := refusedLogins(ctx, t, began); said != "" {
		t.Errorf("PostgreSQL refused:\n%s", said)
	}
	if now := processes(ctx, t); now != ran {
		t.Errorf("something was restarted:\n%s, was\n%s", now, ran)
	}
	after := passwords(ctx, t)
	for _, p := range twins.All {
		if after[p[0].Role] != "" || after[p[1].Role] == "" {
			t.Errorf("%s: passwords of %v", p.Name(), p)
		}
	}
	ok(t, hosts.Whole(ctx, cluster, time.Minute))
	leader := must[string](t)(hosts.Leader(ctx, cluster))
	if who := sqlOn(ctx, t, hosts.Node(leader), "select string_agg(distinct usename, ' ') from pg_stat_replication"); who != "replicator_b" {
		t.Errorf("replicas stream as %s", who)
	}
	letsNobodyIn(ctx, t, before)
	s.since()

	from, to := leaderAndNext(ctx, t)
	began = time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := hosts.Pgctrl(ctx, "secret", "rotate", cluster, "--all", "--wait", "3m")
		done <- err
	}()
	ok(t, fleet.Until(ctx, time.Minute, "a pooler to have moved", func(ctx context.Context) error {
		for _, h := range hosts.Nodes {
			if _, err := h.Exec(ctx, "grep", "-q", "^auth_user = pgctrl_pooler$", "/etc/pgbouncer/"+cluster+".ini"); err == nil {
				return nil
			}
		}
		return errors.New("none")
	}))
	// The password of Patroni's REST API is changed as well, node by node; a node's own
	// file has the one that counts there.
	ok(t, fleet.Until(ctx, time.Minute, "a switchover", func(ctx context.Context) error {
		_, err := hosts.Node(from).Exec(ctx, "sh", "-c", fmt.Sprintf(`p=$(sed -n "/^restapi:/,/^[a-z]*3:/s/^ *password: '\(.*\)'/\1/p" /etc/patroni/%s.yml)
curl -sS --fail-with-body -m 60 -u "patroni:$p" -X POST -d '{"leader":"%s","candidate":"%s"}' http://127.0.0.1:8008/switchover`, cluster, from, to))
		return err
	}))
	ok(t, <-done)
	ok(t, hosts.Whole(ctx, cluster, time.Minute))
	clean("with a switchover")
	if said := refusedLogins(ctx, t, began); said != "" {
		t.Errorf("PostgreSQL refused:\n%s", said)
		for _, h := range hosts.Nodes {
			t.Log(h.Exec(ctx, "sh", "-c", "runuser -u postgres -- psql -X -h /run/pgbouncer-pgctrl/"+cluster+" -p 6432 -U pgbouncer pgbouncer -c 'SHOW POOLS' -c 'SHOW CLIENTS' -c 'SHOW DATABASES'; journalctl -o short-precise -u pgbouncer@"+cluster+" | grep -v RESUME | tail -60"))
		}
	}
	hold(ctx, 2*time.Second)
	clean("afterwards")
	letsNobodyIn(ctx, t, after)
	statusReady(ctx, t)
	out := must[string](t)(hosts.Pgctrl(ctx, "secret", "list", cluster))
	if strings.Contains(out, "_b") || strings.Contains(out, "former") {
		t.Errorf("after two rotations:\n%s", out)
	}
}

// TestRotateWithADelayedMember: it goes on as the role that its PostgreSQL has, and
// nobody can log in as that any more once it has replayed the other.
func TestRotateWithADelayedMember(t *testing.T) {
	ctx := begin(t)
	leadsFirst(ctx, t)
	member := cluster + "-3"
	h := hosts.Node(member)
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.Background(), "unset", cluster, "members/"+member, "delay")
		statusReady(context.Background(), t)
	})
	user, password := appLogin(ctx, t)
	operated(ctx, t, "set", cluster, "members/"+member, "delay=15s")
	ok(t, fleet.Until(ctx, 60*time.Second, "the delay on "+member+" and its logins", func(ctx context.Context) error {
		if out := sqlOn(ctx, t, h, "show recovery_min_apply_delay"); out != "15s" {
			return fmt.Errorf("it is %s", out)
		}
		_, err := login(ctx, h, 6432, user, password, "postgres", "select 'in'")
		return err
	}))
	s := sampleLogins(ctx, t, user, password)
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := hosts.Pgctrl(ctx, "secret", "rotate", cluster, "pooler", "--wait", "2m")
		done <- err
	}()
	uses := func(node int) string {
		return strings.TrimSpace(must[string](t)(hosts.Nodes[node].Exec(ctx, "sh", "-c", "sed -n 's/^auth_user = //p' /etc/pgbouncer/"+cluster+".ini")))
	}
	first := uses(2)
	ok(t, fleet.Until(ctx, 12*time.Second, "the others to move", func(context.Context) error {
		if uses(0) == first || uses(1) == first {
			return fmt.Errorf("%s and %s", uses(0), uses(1))
		}
		return nil
	}))
	if uses(2) != first {
		t.Errorf("%s moved before it replayed", h.Name)
	}
	// What it waits for keeps the cluster from nothing: it is Ready.
	ok(t, fleet.Until(ctx, 10*time.Second, "status to say for whom the former role is open", func(ctx context.Context) error {
		out, err := hosts.Infra.Command(ctx, "pgctrl", "status", cluster).CombinedOutput()
		if err != nil || !strings.Contains(string(out), string(observed.Rotating)) || !strings.Contains(string(out), "replays") {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}))
	pgctrlRefuses(ctx, t, "under way", "secret", "rotate", cluster, "pooler")
	ok(t, <-done)
	t.Logf("with a delay of 15 s it took %s", time.Since(began))
	if uses(2) == first {
		t.Errorf("%s did not move", h.Name)
	}
	hold(ctx, 16*time.Second) // until it has replayed that the former is closed
	n, refused, other := s.since()
	t.Logf("%d logins, %d refused, %d found nobody", n, len(refused), len(other))
	if len(refused)+len(other) > 0 {
		t.Errorf("logins failed: %s", strings.Join(append(refused, other...)[:min(10, len(refused)+len(other))], "\n"))
	}
}
