package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// R9 promises a second. The machine that tests run on is shared, so only what is
// beyond any doubt fails; the log has what was measured. Compared without an event it
// would be every 30 s.
const (
	repairedWithin = time.Second
	repairedAtMost = 10 * time.Second
)

// A drift is one thing done by hand, and how to see that it is undone.
type drift struct {
	what string
	// act is a shell command; it runs with the cluster's name as $C.
	act string
	// fixed is a shell command that succeeds when all is as planned. It is run every
	// 20 ms by one shell on the host, so that entering the host takes no time of it.
	fixed string
}

const (
	socket  = "/run/haproxy-pgctrl/$C/admin.sock"
	enabled = `test "$(systemctl is-enabled haproxy@$C)" = enabled`
	active  = `systemctl is-active --quiet haproxy@$C`
)

// server reads one column of a server's state: 6 operation, 7 administration,
// 8 weight, 19 port.
func server(backend, name string, column int) string {
	return fmt.Sprintf(`$(echo show servers state %s | socat - %s | awk '$4=="%s"{print $%d}')`, backend, socket, name, column)
}

func setServer(path, what string) string {
	return fmt.Sprintf(`echo set server %s %s | socat - %s`, path, what, socket)
}

// drifts is R9's list, as far as it exists. primary leads; replica does not.
func drifts(primary, replica string) []drift {
	const file = "/etc/haproxy/$C.cfg"
	writeBackend, readBackend := "primary", "replica"
	return []drift{
		{"a file's content", `echo '# drifted here' >>` + file, `! grep -q 'drifted here' ` + file},
		{"a file replaced by an editor", `sed -i '1i # drifted here' ` + file, `! grep -q 'drifted here' ` + file},
		{"a file removed", `rm ` + file, `test -e ` + file},
		{"a file's mode", `chmod 0666 ` + file, `test "$(stat -c %a ` + file + `)" = 640`},
		{"the mode of Patroni's file", `chmod 0666 /etc/patroni/$C.yml`, `test "$(stat -c %a /etc/patroni/$C.yml)" = 640`},
		{"a unit disabled", `systemctl disable haproxy@$C`, enabled},
		{"a unit masked", `systemctl mask haproxy@$C`, enabled},
		{"HAProxy stopped", `systemctl stop haproxy@$C`, active},
		{"HAProxy stopped and disabled", `systemctl disable --now haproxy@$C`, enabled + ` && ` + active},
		{"the primary's server set to maint", setServer(writeBackend+"/"+primary, "state maint"), `test "` + server(writeBackend, primary, 7) + `" = 0`},
		{"the primary's server drained", setServer(writeBackend+"/"+primary, "state drain"), `test "` + server(writeBackend, primary, 7) + `" = 0`},
		{"the primary's server put down", setServer(writeBackend+"/"+primary, "health down"), `test "` + server(writeBackend, primary, 6) + `" = 2`},
		{"a weight set to 0", setServer(writeBackend+"/"+primary, "weight 0"), `test "` + server(writeBackend, primary, 8) + `" != 0`},
		{"an address changed", setServer(writeBackend+"/"+primary, "addr 127.0.0.9 port 9"), `test "` + server(writeBackend, primary, 19) + `" != 9`},
		{"a replica put up for writes", setServer(writeBackend+"/"+replica, "health up"), `test "` + server(writeBackend, replica, 6) + `" = 0`},
		{"a replica's server set to maint", setServer(readBackend+"/"+replica, "state maint"), `test "` + server(readBackend, replica, 7) + `" = 0`},
		{"a replica's server put down", setServer(readBackend+"/"+replica, "health down"), `test "` + server(readBackend, replica, 6) + `" = 2`},
	}
}

// do makes a drift and returns how long it stood, by the host's own clock from the
// end of the act on: what the act's own program takes is not ours.
func (d drift) do(ctx context.Context, h *lab.Host) (time.Duration, error) {
	script := fmt.Sprintf(`C=%s
(%s) >/dev/null 2>&1
t0=$(date +%%s%%N)
for i in $(seq 1000); do
  if %s; then t1=$(date +%%s%%N); echo $((t1-t0)); exit 0; fi
  sleep 0.02
done
exit 1`, cluster, d.act, d.fixed)
	out, err := h.Exec(ctx, "sh", "-c", script)
	if err != nil {
		return 0, fmt.Errorf("not undone in 20 s: %w", err)
	}
	var ns int64
	if _, err := fmt.Sscan(out, &ns); err != nil {
		return 0, fmt.Errorf("parse %q: %w", out, err)
	}
	return time.Duration(ns), nil
}

// doAll makes the drifts on one node after the other, and returns how long each stood.
func doAll(ctx context.Context, t *testing.T, all []drift) (stood []time.Duration) {
	t.Helper()
	for i, d := range all {
		h := hosts.Nodes[i%len(hosts.Nodes)]
		took, err := d.do(ctx, h)
		switch {
		case err != nil:
			t.Errorf("%s on %s: %v", d.what, h.Name, err)
			continue
		case took > repairedAtMost:
			t.Errorf("%s on %s: stood for %s", d.what, h.Name, took)
		}
		t.Logf("%-34s %s", d.what, took.Round(time.Millisecond))
		stood = append(stood, took)
		// Three repairs of one thing on one node within ten seconds would be a fight.
		hold(ctx, 5200*time.Millisecond/time.Duration(len(hosts.Nodes)))
	}
	return stood
}

// TestR9DriftRepairsItself: each thing that somebody does by hand is undone within
// a second, and reported.
func TestR9DriftRepairsItself(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	leader, next := leaderAndNext(ctx, t)
	stood := doAll(ctx, t, drifts(leader, next))
	slices.Sort(stood)
	if len(stood) > 0 {
		t.Logf("%d repairs: p50 %s, max %s (promised: %s)", len(stood), stood[len(stood)/2].Round(time.Millisecond),
			stood[len(stood)-1].Round(time.Millisecond), repairedWithin)
	}
	for _, h := range hosts.Nodes {
		report := must[string](t)(hosts.Get(ctx, hosts.Layout.ObservedKey(h.Name, cluster, "haproxy")))
		if !strings.Contains(report, `"repaired":`) {
			t.Errorf("the repairs on %s are not reported: %s", h.Name, report)
		}
		metrics := must[string](t)(h.Exec(ctx, "curl", "-sf", "http://127.0.0.1:9641/metrics"))
		for _, want := range []string{"pgagent_drift_total{", "pgagent_drift_repair_seconds_count{"} {
			if !strings.Contains(metrics, want) {
				t.Errorf("no metric %s on %s", want, h.Name)
			}
		}
	}
	statusReady(ctx, t)
}

// TestR9WithoutEtcd: repairs need neither etcd nor a server.
func TestR9WithoutEtcd(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	stopEtcd(ctx, t)
	hold(ctx, 5*time.Second) // views are stale now
	doAll(ctx, t, drifts("", "")[:9])
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-etcd"))
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	statusReady(ctx, t)
}

// TestWhatPeopleStopStaysStopped: Patroni stopped by hand stays so and is reported;
// HAProxy stopped in the same breath is back.
func TestWhatPeopleStopStaysStopped(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	_, next := leaderAndNext(ctx, t)
	h := hosts.Node(next)
	t.Cleanup(func() {
		_, _ = h.Exec(context.Background(), "systemctl", "start", "patroni@"+cluster)
		statusReady(context.Background(), t)
	})
	must[string](t)(h.Exec(ctx, "systemctl", "stop", "patroni@"+cluster))
	took, err := drift{"", `systemctl stop haproxy@$C`, active}.do(ctx, h)
	if err != nil || took > repairedAtMost {
		t.Errorf("HAProxy: %s, %v", took, err)
	}
	since := time.Now()
	statusSays(ctx, t, "Stopped", "systemctl start patroni@"+cluster)
	t.Logf("HAProxy was back after %s; that Patroni is stopped was said %s later", took, time.Since(since).Round(time.Millisecond))
	for range 70 { // longer than the slow compare
		if _, err := h.Exec(ctx, "systemctl", "is-active", "--quiet", "patroni@"+cluster); err == nil {
			t.Fatal("Patroni was started")
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// TestFreezeLeavesAlone: what is frozen is not repaired, the leader is followed, and
// it ends by itself, without a server.
func TestFreezeLeavesAlone(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	leader, next := leaderAndNext(ctx, t)
	h := hosts.Node(next)
	until := time.Now().Add(25 * time.Second).Truncate(time.Second) // a document's times have whole seconds
	must[string](t)(hosts.Pgctrl(ctx, "freeze", cluster, "haproxy", "--for", "25s", "--reason", "a test"))
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-server"))
	t.Cleanup(func() {
		_, _ = hosts.Infra.Exec(context.Background(), "systemctl", "start", "pgctrl-server")
		_, _ = hosts.Pgctrl(context.Background(), "unfreeze", cluster)
		statusReady(context.Background(), t)
	})
	must[string](t)(h.Exec(ctx, "chmod", "0666", "/etc/haproxy/"+cluster+".cfg"))
	must[string](t)(h.Exec(ctx, "sh", "-c", "C="+cluster+"; "+setServer("primary/"+leader, "weight 7")))
	mode := func() string {
		return strings.TrimSpace(must[string](t)(h.Exec(ctx, "stat", "-c", "%a", "/etc/haproxy/"+cluster+".cfg")))
	}
	for time.Until(until) > 2*time.Second {
		if m := mode(); m != "666" {
			t.Fatalf("the file's mode is %s, %s before the end of the freeze", m, time.Until(until))
		}
		time.Sleep(500 * time.Millisecond)
	}
	ok(t, fleet.Until(ctx, 8*time.Second, "the file to be repaired when the freeze is over", func(context.Context) error {
		if m := mode(); m != "640" {
			return fmt.Errorf("its mode is %s", m)
		}
		return nil
	}))
	t.Logf("repaired %s after the end", time.Since(until).Round(10*time.Millisecond))
}
