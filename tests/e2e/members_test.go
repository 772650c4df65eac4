package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// operated runs a command that acts on living members and returns all it says.
func operated(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	start := time.Now()
	out, err := hosts.Infra.Command(ctx, append([]string{"pgctrl"}, args...)...).CombinedOutput()
	t.Logf("pgctrl %s (%s)\n%s", strings.Join(args, " "), time.Since(start).Round(time.Millisecond), out)
	ok(t, err)
	return string(out)
}

// pgctrlRefuses runs a command of pgctrl that must not be done and say why.
func pgctrlRefuses(ctx context.Context, t *testing.T, want string, args ...string) {
	t.Helper()
	shows(t, strings.Join(args, " "), refuses(ctx, t, hosts.Infra, append([]string{"pgctrl"}, args...)...), want)
}

// leadsFirst makes the first member lead, so that the others may come and go.
func leadsFirst(ctx context.Context, t *testing.T) {
	t.Helper()
	if leader := must[string](t)(hosts.Leader(ctx, cluster)); leader != cluster+"-1" {
		ok(t, hosts.Switchover(ctx, cluster, leader, cluster+"-1"))
		writesEverywhere(ctx, t, cluster+"-1", 15*time.Second)
		ok(t, hosts.Whole(ctx, cluster, time.Minute))
	}
	statusReady(ctx, t)
}

// TestParametersThatPostgresRejects: refused before they are written; written past
// that, nothing changes and the status names key, field and what was meant.
func TestParametersThatPostgresRejects(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	doc := hosts.Layout.ClusterDoc(cluster, "postgres")
	before := must[string](t)(hosts.Get(ctx, doc))
	pgctrlRefuses(ctx, t, "expected a whole number from 64 to 2147483647", "set", cluster, "postgres", "parameters.work_mem=1kB")
	pgctrlRefuses(ctx, t, `no parameter "work_mme"; did you mean "work_mem"`, "set", cluster, "postgres", "parameters.work_mme=16MB")
	if after := must[string](t)(hosts.Get(ctx, doc)); after != before {
		t.Errorf("something was written: %q", after)
	}
	ok(t, hosts.Put(ctx, doc, "parameters:\n  work_mme: 16MB\n"))
	statusSays(ctx, t, "Rejected", doc, "parameters.work_mme", `did you mean "work_mem"`)
	ok(t, hosts.Put(ctx, doc, "parameters:\n  work_mem: 1kB\n"))
	statusSays(ctx, t, "Rejected", doc, "parameters.work_mem", "outside the valid range", "(64 ")
	restore(ctx, t, doc, before)
	statusReady(ctx, t)

	// What somebody sets past the documents is shown and left.
	h := leading(ctx, t)
	sqlOn(ctx, t, h, "alter system set work_mem = '9MB'")
	sqlOn(ctx, t, h, "select pg_reload_conf()")
	statusSays(ctx, t, "AlteredByHand", "ALTER SYSTEM set work_mem")
	if now := sqlOn(ctx, t, h, "show work_mem"); now != "9MB" {
		t.Errorf("what was set by hand was undone: %s", now)
	}
	sqlOn(ctx, t, h, "alter system reset work_mem")
	sqlOn(ctx, t, h, "select pg_reload_conf()")
	ok(t, fleet.Until(ctx, 20*time.Second, "the status to forget it", func(ctx context.Context) error {
		if s := statusText(ctx); strings.Contains(s, "AlteredByHand") {
			return fmt.Errorf("it says:\n%s", s)
		}
		return nil
	}))
}

// TestRestartBringsWhatWaits: a value that needs a restart waits, one member gets it by
// a restart of that member alone, and the rest by the command that status names.
func TestRestartBringsWhatWaits(t *testing.T) {
	ctx := begin(t)
	leadsFirst(ctx, t)
	started := func() (out []string) {
		for _, h := range hosts.Nodes {
			out = append(out, sqlOn(ctx, t, h, "select pg_postmaster_start_time()"))
		}
		return out
	}
	size := "2048"
	if sqlOn(ctx, t, hosts.Nodes[0], "show track_activity_query_size") == "2kB" {
		size = "3072"
	}
	before := started()
	operated(ctx, t, "set", cluster, "postgres", "parameters.track_activity_query_size="+size)
	statusSays(ctx, t, "PendingRestart", "pgctrl restart "+cluster+" "+cluster+"-2")
	if now := started(); strings.Join(now, ",") != strings.Join(before, ",") {
		t.Errorf("PostgreSQL was restarted as a side effect: %v, before %v", now, before)
	}
	operated(ctx, t, "restart", cluster, cluster+"-2")
	if now := started(); now[1] == before[1] || now[0] != before[0] || now[2] != before[2] {
		t.Errorf("started %v, before %v; want the second alone restarted", now, before)
	}
	pgctrlRefuses(ctx, t, "--confirm "+cluster, "restart", cluster, "--pending")
	said := operated(ctx, t, "restart", cluster, "--pending", "--confirm", cluster)
	if strings.Contains(said, "restarted  "+cluster+"-2") || strings.Index(said, "restarted  "+cluster+"-3") > strings.Index(said, "restarted  "+cluster+"-1") {
		t.Errorf("want the other replica and then the leader:\n%s", said)
	}
	for _, h := range hosts.Nodes {
		if got := sqlOn(ctx, t, h, "select setting from pg_settings where name = 'track_activity_query_size'"); got != size {
			t.Errorf("%s runs with %s, want %s", h.Name, got, size)
		}
	}
	statusReady(ctx, t)
	if s := statusText(ctx); strings.Contains(s, "PendingRestart") || must[string](t)(hosts.Leader(ctx, cluster)) != cluster+"-1" {
		t.Errorf("a value still waits, or another member leads:\n%s", s)
	}
}

// TestReinitCopiesAReplica and never the leader.
func TestReinitCopiesAReplica(t *testing.T) {
	ctx := begin(t)
	leadsFirst(ctx, t)
	pgctrlRefuses(ctx, t, cluster+"-1 leads", "reinit", cluster, cluster+"-1", "--confirm", cluster+"-1")
	pgctrlRefuses(ctx, t, "--confirm "+cluster+"-3", "reinit", cluster, cluster+"-3")
	mark := strings.TrimSpace(must[string](t)(hosts.Nodes[2].Exec(ctx, "sh", "-c", "ls -d /var/lib/postgresql/*/"+cluster))) + "/old-copy"
	must[string](t)(hosts.Nodes[2].Exec(ctx, "touch", mark))
	s := probe.Start(ctx, service(ctx, t, 0, 5436), 50*time.Millisecond, 25, nil)
	operated(ctx, t, "reinit", cluster, cluster+"-3", "--confirm", cluster+"-3")
	if samples := s.Stop(); probe.Count(samples)[probe.Written] != len(samples) || len(samples) < 20 {
		t.Errorf("writes while a replica was copied: %v of %d", probe.Count(samples), len(samples))
	}
	if _, err := hosts.Nodes[2].Exec(ctx, "test", "!", "-e", mark); err != nil {
		t.Error("the data are the old ones")
	}
	ok(t, hosts.Whole(ctx, cluster, time.Minute))
	for _, prefix := range []string{hosts.Layout.StepKey("pg3", cluster+"."), hosts.Layout.ResultKey("pg3", cluster+".")} {
		if left := under(ctx, t, prefix); len(left) > 0 {
			t.Errorf("left in etcd: %s", left[0].Key)
		}
	}
	statusReady(ctx, t)
}

// TestDelayedMember: it is behind on purpose, never leads, and no replica service leads
// to it.
func TestDelayedMember(t *testing.T) {
	ctx := begin(t)
	leadsFirst(ctx, t)
	member := cluster + "-3"
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.Background(), "unset", cluster, "members/"+member, "delay")
	})
	operated(ctx, t, "set", cluster, "members/"+member, "delay=6s")
	h := hosts.Node(member)
	ok(t, fleet.Until(ctx, 20*time.Second, "the delay on "+member, func(ctx context.Context) error {
		if out := sqlOn(ctx, t, h, "show recovery_min_apply_delay"); out != "6s" {
			return fmt.Errorf("it is %s", out)
		}
		return nil
	}))
	at := time.Now()
	sqlOn(ctx, t, hosts.Nodes[0], "drop table if exists delayed; create table delayed (n int)")
	there := func() string { return sqlOn(ctx, t, h, "select count(*) from pg_class where relname = 'delayed'") }
	if n := there(); n != "0" && time.Since(at) < 5*time.Second {
		t.Error("it replayed at once what it is to replay after 6 s")
	}
	ok(t, fleet.Until(ctx, 20*time.Second, member+" to replay it", func(context.Context) error {
		if n := there(); n != "1" {
			return fmt.Errorf("count %s", n)
		}
		return nil
	}))
	if took := time.Since(at); took < 5*time.Second {
		t.Errorf("replayed after %s", took)
	}
	if out := must[string](t)(hosts.Nodes[0].Exec(ctx, "sed", "-n", "/^backend replica$/,/^$/p", "/etc/haproxy/"+cluster+".cfg")); strings.Contains(out, member) || !strings.Contains(out, cluster+"-2") {
		t.Errorf("the replica service:\n%s", out)
	}
	if v := must[string](t)(hosts.Get(ctx, hosts.Layout.Members(cluster)+member)); !strings.Contains(v, `"nofailover":true`) {
		t.Errorf("Patroni would let it lead: %s", v)
	}
	pgctrlRefuses(ctx, t, "only replica", "remove", cluster, cluster+"-2", "--confirm", cluster+"-2")
	operated(ctx, t, "unset", cluster, "members/"+member, "delay")
	sqlOn(ctx, t, hosts.Nodes[0], "drop table delayed")
	ok(t, hosts.Whole(ctx, cluster, 30*time.Second))
	statusReady(ctx, t)
}

// TestMembersComeAndGo: one is added to a cluster that lives, one is replaced, and no
// write fails; the new one streams before the old one goes.
func TestMembersComeAndGo(t *testing.T) {
	ctx := begin(t)
	leadsFirst(ctx, t)
	second, third := cluster+"-2", cluster+"-3"
	removed(ctx, t, cluster, third, "--confirm", third)
	pgctrlRefuses(ctx, t, second+" is the only replica", "remove", cluster, second, "--confirm", second)
	pgctrlRefuses(ctx, t, second+" is the only replica", "reinit", cluster, second, "--confirm", second)
	pgctrlRefuses(ctx, t, cluster+"-1 leads", "replace", cluster, cluster+"-1", "--on", "pg3", "--confirm", cluster+"-1")
	s := probe.Start(ctx, service(ctx, t, 0, 5436), 50*time.Millisecond, 25, nil)
	said := operated(ctx, t, "replace", cluster, second, "--on", "pg3", "--confirm", second)
	if came, went := strings.Index(said, "added    "+third+": streaming"), strings.Index(said, "removed  "+second); came < 0 || went < came {
		t.Errorf("want the new one there before the old one goes:\n%s", said)
	}
	operated(ctx, t, "set", cluster, "members/"+second, "node=pg2", "--wait", "2m")
	if samples := s.Stop(); probe.Count(samples)[probe.Written] != len(samples) || len(samples) < 50 {
		t.Errorf("writes while members came and went: %v of %d", probe.Count(samples), len(samples))
	}
	ok(t, hosts.Whole(ctx, cluster, time.Minute))
	statusReady(ctx, t)
}
