package desired

import (
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/near"
)

// Service is a port of every HAProxy of the cluster: services/<name>.
//
// Five exist without a document: primary, replica, default, offline, and stats,
// which is HAProxy's own page and metrics rather than a way to PostgreSQL.
type Service struct {
	Meta           `yaml:"-"`
	Port           int      `yaml:"port" min:"1" max:"65535" own:"true" note:"primary 5433, replica 5434, default 5436, offline 5438, stats 9101; any other name needs one" effect:"move" unit:"TCP port" example:"5440" says:"The port clients connect to, on every member's node and every node with role proxy."`
	Role           string   `yaml:"role" enum:"primary,replica,offline,stats" own:"true" note:"by the names primary, replica, default (primary), offline and stats; any other name needs one" effect:"reload" example:"replica" says:"Which members take the connections."`
	Backend        string   `yaml:"backend" enum:"pgbouncer,postgres" note:"pgbouncer for primary and replica, otherwise postgres" effect:"reload" example:"postgres" says:"What connections go to on the member: its pooler, or PostgreSQL directly."`
	Fallback       string   `yaml:"fallback" enum:"none,primary,replica" note:"by role: replica falls back to primary, offline to replica, primary to none" effect:"reload" example:"none" says:"Who takes the connections when no member of the role can."`
	MaxLag         Size     `yaml:"max_lag" note:"16MB for role replica, otherwise 0B: no bound" effect:"reload" example:"64MB" says:"A replica that is further behind takes no connections; 0B sets no bound."`
	Enabled        bool     `yaml:"enabled" default:"true" effect:"move" example:"false" says:"false switches off a service that exists by default."`
	ConnectTimeout Duration `yaml:"connect_timeout" default:"250ms" min:"50ms" max:"1m" effect:"reload" example:"500ms" says:"How long HAProxy waits for a member before it tries again; with retries, how long a client is held during a move."`
	Retries        int      `yaml:"retries" default:"20" min:"0" max:"1000" effect:"reload" example:"10" says:"How often HAProxy tries a connection again, each time on another member if there is one."`
	ClientTimeout  Duration `yaml:"client_timeout" default:"24h" min:"1s" max:"720h" effect:"reload" example:"1h" says:"A client that says nothing for this long is disconnected."`
	ServerTimeout  Duration `yaml:"server_timeout" default:"24h" min:"1s" max:"720h" effect:"reload" example:"1h" says:"A query that answers nothing for this long is cut."`
	MaxConn        int      `yaml:"maxconn" default:"10000" min:"1" max:"1000000" effect:"reload" unit:"connections" example:"2000" says:"How many clients one HAProxy takes on this port; further ones wait."`
	Inter          Duration `yaml:"inter" default:"2s" min:"100ms" max:"1m" effect:"reload" example:"1s" says:"How often HAProxy checks a member that is up."`
	FastInter      Duration `yaml:"fastinter" default:"1s" min:"100ms" max:"1m" effect:"reload" example:"500ms" says:"How often it checks a member that is changing."`
	DownInter      Duration `yaml:"downinter" default:"1s" min:"100ms" max:"1m" effect:"reload" example:"2s" says:"How often it checks a member that is down."`
	Rise           int      `yaml:"rise" default:"2" min:"1" max:"10" effect:"reload" unit:"checks" example:"3" says:"How many good checks bring a member up."`
	Fall           int      `yaml:"fall" default:"3" min:"1" max:"10" effect:"reload" unit:"checks" example:"2" says:"How many bad checks take a member down."`
}

// The backends of a service (Service.Backend).
const (
	Pooled = "pgbouncer"
	Direct = "postgres"
)

// StatsService is the reserved name of HAProxy's own page.
const StatsService = "stats"

// The services that exist without a document (DESIGN section 4).
var standardServices = map[string]map[string]any{
	"primary":    {"port": 5433, "role": "primary", "backend": Pooled},
	"replica":    {"port": 5434, "role": "replica", "backend": Pooled},
	"default":    {"port": 5436, "role": "primary"},
	"offline":    {"port": 5438, "role": "offline"},
	StatsService: {"port": 9101, "role": "stats"},
}

// serviceDefaults adds what the role decides to what the name decides.
func serviceDefaults(name string, set settings) map[string]any {
	out := map[string]any{"fallback": "none", "max_lag": Size(0), "backend": Direct}
	for k, v := range standardServices[name] {
		out[k] = v
	}
	role := out["role"]
	if s, ok := set["role"]; ok {
		role = s.value
	}
	switch role {
	case "replica":
		out["fallback"], out["max_lag"] = "primary", Size(16<<20)
	case "offline":
		out["fallback"] = "replica"
	}
	return out
}

func checkService(d *resolved) []Problem {
	s := d.doc.(*Service)
	var out []Problem
	for _, f := range []string{"port", "role"} {
		if _, ok := d.full[f]; !ok {
			p := d.problem(f, "expected a value, found nothing; only the standard services have one by themselves")
			p.Suggestion = near.Hint(d.name, sortedKeys(standardServices))
			out = append(out, p)
		}
	}
	if d.name == StatsService || s.Role == StatsService {
		return append(out, checkStats(d, s)...)
	}
	if s.Role == "primary" && s.Fallback != "none" {
		out = append(out, d.problem("fallback", "expected none, because only the primary takes writes, found %s", s.Fallback))
	}
	if s.Role != "primary" && s.Fallback == s.Role {
		out = append(out, d.problem("fallback", "expected none or another role than the service's own, found %s", s.Fallback))
	}
	return out
}

// checkStats keeps the page and the ways to PostgreSQL apart.
func checkStats(d *resolved, s *Service) []Problem {
	var out []Problem
	if d.name != StatsService || s.Role != StatsService {
		p := d.problem("role", "expected the role stats for the service named stats and for no other, found service %s with role %s", d.name, s.Role)
		return append(out, p)
	}
	for _, path := range d.set.paths() {
		// A default for all services is not meant for this one.
		shared := d.set[path].key != d.key
		if path != "port" && path != "role" && path != "enabled" && !shared {
			out = append(out, d.problem(path, "expected port or enabled, which is all that the service stats has, found %q", path))
		}
	}
	return out
}

// HoldTime is how long a client may be held while no member takes its connection.
func (s *Service) HoldTime() Duration { return s.ConnectTimeout * Duration(s.Retries) }

// String names the service in messages.
func (s *Service) String() string { return fmt.Sprintf("service %s", s.Name) }

var _ = register(Kind{
	Name: "services", Named: true,
	Meaning:   "A port of every HAProxy of the cluster, and the members it leads to.",
	checkName: keys.CheckName,
	Standard:  sortedKeys(standardServices),
	Inherits:  true,
	builtin:   serviceDefaults,
	check:     checkService,
	store: func(c *Cluster, name string, doc any) {
		s := doc.(*Service)
		if name == StatsService {
			c.Stats = *s
			return
		}
		c.Services[name] = s
	},
}, Service{}, nil)
