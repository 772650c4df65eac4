package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// pristine is pg3 before it was joined; empty when the lab was not made by this run.
var pristine string

// goner is the host that is taken out and given back.
const goner = "pg3"

func notePristine(ctx context.Context, l *lab.Lab) {
	h := l.Host(goner)
	out, err := h.Exec(ctx, "sh", "-c", picture)
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %s before it is joined: %v\n", goner, err)
	}
	pristine = out
}

// picture is what a host looks like to whoever gets it back: unit files and whether
// they are enabled, what runs, and every file under /etc and /var/lib with its mode
// and content. Left out is what changes by itself, what the test itself installs,
// and the data and their backups, which are kept on purpose.
const picture = `systemctl list-unit-files --no-legend --no-pager --plain | awk '{print "unit", $1, $2}' | sort
systemctl list-units --type=service --state=running --no-legend --no-pager --plain | awk '$1 !~ /^(systemd-|user@|getty|dbus|console)/ {print "runs", $1}' | sort
find /etc /var/lib /run/pgctrl /run/haproxy-pgctrl -xdev \( -path /var/lib/postgresql -o -path /var/lib/pgbackrest -o -path /var/lib/systemd -o -path /var/lib/private -o -path /var/lib/apt -o -path /var/lib/prometheus \) -prune -o \( -type f -o -type l \) -printf '%p %m %u:%g %l\n' 2>/dev/null | sort
find /etc -xdev -type f ! -name machine-id ! -name 'resolv.conf' ! -name '*-' -exec sha256sum {} + | sort -k2
cat /etc/postgresql/*/main/start.conf`

// removed runs pgctrl remove and returns all it says.
func removed(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	out, err := hosts.Infra.Command(ctx, append([]string{"pgctrl", "remove"}, args...)...).CombinedOutput()
	t.Logf("pgctrl remove %s\n%s", strings.Join(args, " "), out)
	ok(t, err)
	return string(out)
}

// TestRemoveMemberAndGiveTheHostBack: a member goes without a failed write or read
// on the other nodes, its host is given back as it was found, and both come again.
func TestRemoveMemberAndGiveTheHostBack(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	gone := cluster + "-3"
	if leader := must[string](t)(hosts.Leader(ctx, cluster)); leader == gone {
		out, err := hosts.Infra.Command(ctx, "pgctrl", "remove", cluster, gone, "--confirm", gone).CombinedOutput()
		if err == nil || !strings.Contains(string(out), gone+" leads") {
			t.Errorf("the leader: %v\n%s", err, out)
		}
		ok(t, hosts.Switchover(ctx, cluster, leader, cluster+"-1"))
		writesEverywhere(ctx, t, cluster+"-1", 15*time.Second)
		ok(t, hosts.Whole(ctx, cluster, time.Minute))
	}
	host := hosts.Node(gone)
	out, err := host.Exec(ctx, "pgagent", "leave")
	if err == nil || !strings.Contains(err.Error(), "pgctrl remove "+cluster+" "+gone) {
		t.Errorf("leave with a member: %v\n%s", err, out)
	}
	var samplers []*probe.Sampler
	for i := range 2 {
		samplers = append(samplers, probe.Start(ctx, service(ctx, t, i, 5436), 50*time.Millisecond, 25, nil),
			probe.Start(ctx, service(ctx, t, i, 5433), 50*time.Millisecond, 25, nil))
	}
	said := removed(ctx, t, cluster, gone, "--confirm", gone)
	for i, samples := range stopAll(samplers) {
		if n := probe.Count(samples); n[probe.Written] != len(samples) || len(samples) < 20 {
			t.Errorf("sampler %d: %v of %d while a replica was removed", i, n, len(samples))
		}
	}
	statusReady(ctx, t)
	version := strings.TrimSpace(must[string](t)(host.Exec(ctx, "sh", "-c", "ls -d /var/lib/postgresql/*/"+cluster+".removed-* | tail -1")))
	if !strings.Contains(said, version) || version == "" {
		t.Errorf("it does not say where the data are: %q", version)
	}
	for _, check := range []string{
		"! systemctl is-active -q patroni@" + cluster, "! systemctl is-enabled -q patroni@" + cluster,
		"! systemctl is-active -q haproxy@" + cluster, "! systemctl is-enabled -q haproxy@" + cluster,
		"test ! -e /etc/patroni/" + cluster + ".yml", "test ! -e /etc/haproxy/" + cluster + ".cfg",
		"test -s " + version + "/PG_VERSION", "test ! -e " + strings.SplitN(version, ".removed", 2)[0],
	} {
		if _, err := host.Exec(ctx, "sh", "-c", check); err != nil {
			t.Errorf("not so on %s: %s", host.Name, check)
		}
	}
	if _, err := hosts.Nodes[0].Exec(ctx, "grep", "-q", gone, "/etc/haproxy/"+cluster+".cfg"); err == nil {
		t.Error("the other nodes' HAProxy still knows it")
	}
	if slots := must[string](t)(host.Exec(ctx, "pgagent", "status")); strings.Contains(slots, cluster) {
		t.Errorf("its agent still follows the cluster:\n%s", slots)
	}

	left := must[[]byte](t)(host.Command(ctx, "pgagent", "leave").CombinedOutput())
	t.Logf("pgagent leave\n%s", left)
	now := must[string](t)(host.Exec(ctx, "sh", "-c", picture))
	if pristine == "" {
		t.Log("the lab was there before this run: nothing to compare the host with but what is ours")
	} else if d := cmp.Diff(strings.Split(pristine, "\n"), strings.Split(now, "\n")); d != "" {
		t.Errorf("the host is not as it was before it was joined (-before +after):\n%s", d)
	}
	for _, ours := range []string{"pgagent", "pgctrl", "haproxy@" + cluster, cluster + ".yml"} {
		if strings.Contains(now, ours) {
			t.Errorf("%q is left on the host", ours)
		}
	}
	for _, prefix := range []string{"alive/", "observed/"} {
		for _, e := range under(ctx, t, hosts.Layout.RootPrefix()+prefix+goner) {
			t.Errorf("left in etcd: %s", e.Key)
		}
	}
	t.Logf("%s", must[string](t)(hosts.Pgctrl(ctx, "node", "remove", goner)))

	// And back again.
	_, err = host.Exec(ctx, "pgagent", "join", "--endpoints", hosts.Endpoint())
	ok(t, err)
	_, err = hosts.Pgctrl(ctx, "node", "add", goner, host.IP)
	ok(t, err)
	_, err = hosts.Pgctrl(ctx, "set", cluster, "members/"+gone, "node="+goner, "--wait", "2m")
	ok(t, err)
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	statusReady(ctx, t)
	leader, _ := leaderAndNext(ctx, t)
	writesEverywhere(ctx, t, leader, 15*time.Second)
}

// TestRemoveClusterAndMakeItAgain: nothing of it runs or is in etcd, its data are
// kept, and a cluster of the same name is another one.
func TestRemoveClusterAndMakeItAgain(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	system := must[string](t)(hosts.Get(ctx, hosts.Layout.Scope(cluster)+"initialize"))
	formed := must[string](t)(hosts.Get(ctx, hosts.Layout.FormedKey(cluster)))
	if _, err := hosts.Pgctrl(ctx, "remove", cluster); err == nil || !strings.Contains(err.Error(), "--confirm "+cluster) {
		t.Errorf("without the name typed: %v", err)
	}
	if _, err := hosts.Pgctrl(ctx, "remove", cluster, "--confirm", "pg-tset"); err == nil {
		t.Error("with another name typed it goes on")
	}
	statusReady(ctx, t)
	removed(ctx, t, cluster, "--confirm", cluster)
	for _, prefix := range []string{hosts.Layout.RootPrefix(), hosts.Layout.Scope(cluster)} {
		for _, e := range under(ctx, t, prefix) {
			// What happened to it may be looked up for as long as events are kept, and whether there
			// was more is with them.
			if string(e.Key) == hosts.Layout.EventsRemoved(cluster) {
				continue
			}
			if ref, err := hosts.Layout.Parse(string(e.Key)); err != nil || ref.Cluster == cluster && ref.Family != keys.Events {
				t.Errorf("left in etcd: %s (%v)", e.Key, err)
			}
		}
	}
	for _, h := range hosts.Nodes {
		out := must[string](t)(h.Exec(ctx, "sh", "-c", "ls -d /var/lib/postgresql/*/"+cluster+".removed-*; ! pgrep -u postgres -x postgres; ls /etc/patroni /etc/haproxy"))
		if !strings.Contains(out, ".removed-") || strings.Contains(out, cluster+".yml") || strings.Contains(out, cluster+".cfg") {
			t.Errorf("%s:\n%s", h.Name, out)
		}
	}
	ok(t, hosts.Create(ctx, cluster))
	statusReady(ctx, t)
	if again := must[string](t)(hosts.Get(ctx, hosts.Layout.Scope(cluster)+"initialize")); again == system {
		t.Error("it has the system identifier of the one before: old data were started")
	}
	if again := must[string](t)(hosts.Get(ctx, hosts.Layout.FormedKey(cluster))); again == formed {
		t.Error("it has the record of the one before")
	}
	leader := must[string](t)(hosts.Leader(ctx, cluster))
	target := must[probe.Target](t)(hosts.Target(ctx, cluster, hosts.Node(leader), 5432))
	ok(t, fleet.Until(ctx, 20*time.Second, "the table of the probes", target.Prepare))
	writesEverywhere(ctx, t, leader, 15*time.Second)
}
