package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// faults are what TestAlertsFireAndClear does, the last one last: it stops the cluster.
func faults(t *testing.T, leader string, replicas []string) []fault {
	first, second := replicas[0], replicas[1]
	run := func(h *lab.Host, argv ...string) error {
		_, err := h.Exec(t.Context(), argv...)
		return err
	}
	// sql is run on a member by its own psql.
	sql := func(member, text string) error {
		return run(hosts.Node(member), "runuser", "-u", "postgres", "--", "psql", "-XqAtc", text)
	}
	bad := hosts.Layout.ClusterDoc(cluster, "services/reports")
	return []fault{
		{
			alert: "PoolerDown", labels: map[string]string{"member": leader}, says: "PgBouncer of " + leader,
			act: func(context.Context) error {
				return run(hosts.Node(leader), "systemctl", "kill", "-s", "STOP", "pgbouncer@"+cluster)
			},
			undo: func(context.Context) error {
				return run(hosts.Node(leader), "systemctl", "kill", "-s", "CONT", "pgbouncer@"+cluster)
			},
		},
		{
			alert: "AgentLost", labels: map[string]string{"node": hosts.Node(first).Name}, says: "node " + hosts.Node(first).Name,
			act:  func(context.Context) error { return run(hosts.Node(first), "systemctl", "stop", "pgagent") },
			undo: func(context.Context) error { return run(hosts.Node(first), "systemctl", "start", "pgagent") },
		},
		{
			alert: "VIPWithoutHolder", labels: map[string]string{"cluster": cluster}, says: vip,
			act: func(context.Context) error {
				return run(hosts.Node(leader), "pgagent", "vip", "drop", cluster, "--for", "5m")
			},
			undo: func(context.Context) error {
				return run(hosts.Node(leader), "pgagent", "vip", "drop", cluster, "--off")
			},
		},
		{
			// Three times within ten seconds are a fight; it is over when it was left alone
			// for the last pause and ten seconds more.
			alert: "DriftAgain", labels: map[string]string{"node": hosts.Node(second).Name, "concern": "haproxy"}, says: "On node " + hosts.Node(second).Name,
			act: func(ctx context.Context) error {
				return run(hosts.Node(second), "sh", "-c", "cd /etc/haproxy; for i in 1 2; do echo '# by hand' >>"+cluster+".cfg; "+
					"for j in $(seq 100); do grep -qx '# by hand' "+cluster+".cfg || break; sleep 0.1; done; sleep 0.5; done; echo '# by hand' >>"+cluster+".cfg")
			},
			undo: func(context.Context) error { return nil },
		},
		{
			alert: "NotConverged", labels: map[string]string{"cluster": cluster}, says: "InvalidDocument",
			act:  func(ctx context.Context) error { return hosts.Put(ctx, bad, "port: none\n") },
			undo: func(ctx context.Context) error { _, err := hosts.Etcd.Delete(ctx, bad); return err },
		},
		{
			alert: "ReplicaLag", labels: map[string]string{"member": first}, says: first + " of " + cluster,
			// A pause of the replay would not do: Patroni 3.0.2 ends it within its loop.
			act: func(ctx context.Context) error {
				return errors.Join(hosts.Node(first).Kill(ctx, "postgres: .*startup", "STOP"),
					sql(leader, "create table lagged as select repeat(md5(i::text), 20) from generate_series(1, 100000) i"))
			},
			undo: func(ctx context.Context) error {
				return errors.Join(hosts.Node(first).Kill(ctx, "postgres: .*startup", "CONT"), sql(leader, "drop table lagged"))
			},
		},
		{
			// The replicas first, so that none of them takes over.
			alert: "NoPrimary", labels: map[string]string{"cluster": cluster}, says: "no member of " + cluster,
			act: func(context.Context) error {
				var errs []error
				for _, m := range []string{first, second, leader} {
					errs = append(errs, run(hosts.Node(m), "systemctl", "stop", "patroni@"+cluster))
				}
				return errors.Join(errs...)
			},
			undo: func(ctx context.Context) error {
				var errs []error
				for _, m := range []string{leader, first, second} {
					errs = append(errs, run(hosts.Node(m), "systemctl", "start", "patroni@"+cluster))
				}
				return errors.Join(append(errs, hosts.Whole(ctx, cluster, 2*time.Minute))...)
			},
		},
	}
}
