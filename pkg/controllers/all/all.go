// Package all lists the controllers. A new concern is one line here.
package all

import (
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/databases"
	"github.com/pgctrl/pgctrl/pkg/controllers/dns"
	"github.com/pgctrl/pgctrl/pkg/controllers/haproxy"
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
	return append(concerns, status.New(concerns...))
}
