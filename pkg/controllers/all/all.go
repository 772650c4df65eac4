// Package all lists the controllers. A new concern is one line here.
package all

import (
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/haproxy"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/controllers/status"
	"github.com/pgctrl/pgctrl/pkg/controllers/vip"
)

// Concerns are the controllers that plan what is on hosts, in the order in which
// agents apply them.
func Concerns() []controllers.Controller {
	return []controllers.Controller{
		postgres.New(),
		haproxy.New(),
		vip.New(),
	}
}

// All are the concerns and what watches over them.
func All() []controllers.Controller {
	return append(Concerns(), status.New(Concerns()...))
}
