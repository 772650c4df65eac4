// Package all lists the controllers. A new concern is one line here.
package all

import (
	"slices"

	"github.com/pgctrl/pgctrl/configs/monitoring"
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/backup"
	"github.com/pgctrl/pgctrl/pkg/controllers/databases"
	"github.com/pgctrl/pgctrl/pkg/controllers/dns"
	"github.com/pgctrl/pgctrl/pkg/controllers/haproxy"
	"github.com/pgctrl/pgctrl/pkg/controllers/log"
	"github.com/pgctrl/pgctrl/pkg/controllers/monitor"
	"github.com/pgctrl/pgctrl/pkg/controllers/operations"
	"github.com/pgctrl/pgctrl/pkg/controllers/pgbouncer"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/controllers/reuse"
	"github.com/pgctrl/pgctrl/pkg/controllers/status"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/vip"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Concerns are the controllers that plan what is on hosts, in the order in which
// agents apply them.
func Concerns() []controllers.Controller {
	return []controllers.Controller{
		postgres.New(),
		pgbouncer.New(),
		haproxy.New(),
		vip.New(),
		databases.New(),
		dns.New(),
		backup.New(),
		monitor.New(),
		operations.New(),
	}
}

// Shared are the controllers of programs that the clusters on a node share.
func Shared() []controllers.Controller {
	return []controllers.Controller{
		dns.NewServer(),
		monitor.NewOfNodes(),
		monitor.NewServer(monitor.Rules{"pgctrl.yml": []byte(monitoring.Rules())}),
		log.NewShippers(),
		log.NewStores(),
	}
}

// Concerned is what the engine asks whom a change of a cluster's documents concerns.
func Concerned(s kv.Snapshot, l keys.Layout, cluster string, before []kv.KV) []string {
	return topology.Concerned(s, l, cluster, before)
}

// All are the concerns and what watches over them. The status asks the concerns what the
// engine asks them.
func All() []controllers.Controller {
	concerns := reuse.Answers(Concerns()...)
	return slices.Concat(concerns, Shared(), []controllers.Controller{status.New(concerns...)})
}
