package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// mutatePlan writes a changed plan for a node, with the servers stopped so that
// none puts it right, and returns the revision of the write.
func mutatePlan(ctx context.Context, t *testing.T, h *lab.Host, concern string, change func(*plan.Plan)) int64 {
	t.Helper()
	key := hosts.Layout.PlanKey(h.Name, cluster, concern)
	p, err := plan.Decode([]byte(must[string](t)(hosts.Get(ctx, key))))
	ok(t, err)
	change(&p)
	r, err := hosts.Etcd.Put(ctx, key, string(plan.Encode(p)))
	ok(t, err)
	return r.Header.Revision
}

// reportOn waits for a node's answer to the plan at revision rev.
func reportOn(ctx context.Context, t *testing.T, h *lab.Host, concern string, rev int64) observed.Report {
	t.Helper()
	var report observed.Report
	ok(t, fleet.Until(ctx, 30*time.Second, h.Name+" to answer for "+concern, func(ctx context.Context) error {
		v, err := hosts.Get(ctx, hosts.Layout.ObservedKey(h.Name, cluster, concern))
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(v), &report); err != nil {
			return err
		}
		c, has := report.Condition(observed.Applied)
		if report.Plan < rev || !has || (c.Status == observed.Unknown) {
			return fmt.Errorf("it answers plan %d with %v, want %d", report.Plan, c, rev)
		}
		return nil
	}))
	return report
}

func withoutServers(ctx context.Context, t *testing.T) {
	t.Helper()
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-server"))
	t.Cleanup(func() {
		ctx := context.Background()
		_, _ = hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-server")
		statusReady(ctx, t) // the server writes the right plans again and the hosts follow
	})
}

func haproxyConfig(edit func(string) string) func(*plan.Plan) {
	return func(p *plan.Plan) {
		for i, r := range p.Resources {
			if u, is := r.(plan.Unit); is {
				u.Files[0].Content = edit(u.Files[0].Content)
				p.Resources[i] = u
			}
		}
	}
}

// stillServes fails when the old configuration is not in force: the file is as it
// was and writes go through.
func stillServes(ctx context.Context, t *testing.T, node int, path, before string) {
	t.Helper()
	h := hosts.Nodes[node]
	if after := must[string](t)(h.Exec(ctx, "sha256sum", path)); after != before {
		t.Errorf("%s on %s is not what it was: %s, was %s", path, h.Name, after, before)
	}
	ok(t, fleet.Until(ctx, 10*time.Second, "a write through "+h.Name, func(ctx context.Context) error {
		if one := service(ctx, t, node, 5436).Once(ctx); one.Outcome != probe.Written {
			return fmt.Errorf("%s: %v", one.Outcome, one.Err)
		}
		return nil
	}))
}

func refused(t *testing.T, r observed.Report, reason observed.Reason, words ...string) {
	t.Helper()
	c, _ := r.Condition(observed.Applied)
	t.Logf("reported: %s", c)
	if c.Status != observed.False || c.Reason != reason {
		t.Errorf("reported %s, want %s", c, reason)
	}
	for _, w := range words {
		if !strings.Contains(c.Message, w) {
			t.Errorf("the message lacks %q: %s", w, c.Message)
		}
	}
}

// TestR5ConfigurationItsProgramRejects: a file that haproxy -c refuses never
// takes the place of a working one, and its words are in the report.
func TestR5ConfigurationItsProgramRejects(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	withoutServers(ctx, t)
	const file = "/etc/haproxy/" + cluster + ".cfg"
	before := must[string](t)(hosts.Nodes[1].Exec(ctx, "sha256sum", file))
	rev := mutatePlan(ctx, t, hosts.Nodes[1], "haproxy", haproxyConfig(func(s string) string { return s + "\nbackend broken\n  mode tcp\n  balanse roundrobin\n" }))
	refused(t, reportOn(ctx, t, hosts.Nodes[1], "haproxy", rev), observed.Rejected, "balanse")
	stillServes(ctx, t, 1, file, before)
}

// TestR5PortTakenByAStranger: haproxy -c accepts a port that somebody else holds;
// we do not, and say who holds it.
func TestR5PortTakenByAStranger(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	h := hosts.Nodes[1]
	must[string](t)(h.Exec(ctx, "systemd-run", "--quiet", "--unit=stranger", "socat", "TCP-LISTEN:5499,fork,reuseaddr", "/dev/null"))
	stop := func() { _, _ = h.Exec(context.Background(), "systemctl", "stop", "stranger") }
	t.Cleanup(stop)
	const file = "/etc/haproxy/" + cluster + ".cfg"
	before := must[string](t)(h.Exec(ctx, "sha256sum", file))
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "services/extra", "role=primary", "port=5499", "--wait", "0"))
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.Background(), "unset", cluster, "services/extra", "--wait", "0")
		statusReady(context.Background(), t)
	})
	statusSays(ctx, t, string(observed.PortInUse), "5499", "socat")
	stillServes(ctx, t, 1, file, before)
	stop() // the port is free: what was refused happens by itself
	statusReady(ctx, t)
	extra := service(ctx, t, 1, 5499)
	ok(t, fleet.Until(ctx, 10*time.Second, "a write through the new service", func(ctx context.Context) error {
		if one := extra.Once(ctx); one.Outcome != probe.Written {
			return fmt.Errorf("%s: %v", one.Outcome, one.Err)
		}
		return nil
	}))
}

// TestR5PatroniSettingItRejects: Patroni keeps its old configuration when a
// reload fails, and so does the file.
func TestR5PatroniSettingItRejects(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	withoutServers(ctx, t)
	const file = "/etc/patroni/" + cluster + ".yml"
	before := must[string](t)(hosts.Nodes[1].Exec(ctx, "sha256sum", file))
	rev := mutatePlan(ctx, t, hosts.Nodes[1], "postgres", haproxyConfig(func(s string) string {
		return strings.Replace(s, `listen: "0.0.0.0:8008"`, `listen: "nowhere"`, 1)
	}))
	refused(t, reportOn(ctx, t, hosts.Nodes[1], "postgres", rev), observed.Rejected)
	stillServes(ctx, t, 1, file, before)
}

// TestR5ProgramThatDiesAfterTwoSeconds: a configuration that passes every check,
// starts, and brings the program down two seconds later is taken back.
func TestR5ProgramThatDiesAfterTwoSeconds(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	withoutServers(ctx, t)
	const file = "/etc/haproxy/" + cluster + ".cfg"
	before := must[string](t)(hosts.Nodes[1].Exec(ctx, "sha256sum", file))
	// HAProxy's master gives up when a program it looks after fails.
	rev := mutatePlan(ctx, t, hosts.Nodes[1], "haproxy", haproxyConfig(func(s string) string {
		return s + "\nprogram doomed\n  command /bin/sh -c \"sleep 2; exit 1\"\n"
	}))
	refused(t, reportOn(ctx, t, hosts.Nodes[1], "haproxy", rev), observed.RolledBack)
	stillServes(ctx, t, 1, file, before)
}
