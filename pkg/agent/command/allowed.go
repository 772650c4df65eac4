package command

import (
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/host/service"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// This file is all that plans may touch on a host: an agent refuses a unit, a folder or a
// file that is not here, whoever wrote the plan.

// clusterPrograms are the programs of which each cluster has a unit of its own, by the
// first part of the unit's name: patroni@pg-test.service.
var clusterPrograms = map[string]string{
	"patroni": "patroni", "haproxy": "haproxy", "pgbouncer": plan.Pooler,
	"postgres-exporter": service.PostgresExporter, "pgbouncer-exporter": service.PoolerExporter,
	"pgbackrest-server": plan.BackupServer,
}

// nodeUnits are the programs that clusters on a node share, by unit.
var nodeUnits = map[string]string{
	"dnsmasq.service": "dnsmasq", "pgctrl-prometheus.service": service.Prometheus, "pgctrl-loki.service": service.Loki,
	"pgctrl-promtail@1.service": service.Promtail, "pgctrl-promtail@2.service": service.Promtail,
	"pgctrl-promtail@3.service": service.Promtail, "pgctrl-promtail@4.service": service.Promtail,
}

// allowed is what the plans of a cluster, or of what clusters share, may touch.
type allowed struct {
	units   []string
	folders []string // of units' files
	files   []string // files by themselves
}

func allowedFor(cluster string) allowed {
	if cluster == keys.NodeCluster {
		return allowed{
			units:   slices.Sorted(maps.Keys(nodeUnits)),
			folders: []string{"/etc/dnsmasq.d", service.PrometheusDir, service.RulesDir, service.PromtailDir, service.LokiDir},
			files:   filesOf(cluster),
		}
	}
	a := allowed{
		folders: []string{"/etc/patroni", "/etc/haproxy", "/etc/pgbouncer", "/etc/pgctrl/exporters", "/etc/pgbackrest/restore.d", plan.BackupServerDir},
		files:   filesOf(cluster),
	}
	for _, name := range slices.Sorted(maps.Keys(clusterPrograms)) {
		a.units = append(a.units, name+"@"+cluster+".service")
	}
	return a
}

// filesOf are the files that programs of infra nodes notice by themselves, and the one that
// pgBackRest reads whenever it is run.
func filesOf(cluster string) []string {
	return []string{"/etc/pgctrl/hosts.d/" + cluster, "/etc/pgctrl/targets.d/" + cluster + ".yml", plan.BackupConfig(cluster)}
}

// ownerOf says whose a unit of ours is, and which program it runs.
func ownerOf(unit string) (cluster, program string) {
	if program, ok := nodeUnits[unit]; ok {
		return keys.NodeCluster, program
	}
	name, rest, _ := strings.Cut(unit, "@")
	return strings.TrimSuffix(rest, ".service"), clusterPrograms[name]
}
