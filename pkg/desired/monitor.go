package desired

// Monitor is the exporters beside every member, and how long what they say is kept:
// monitor.
type Monitor struct {
	Meta          `yaml:"-"`
	Enabled       bool     `yaml:"enabled" default:"true" effect:"move" example:"false" says:"false takes the exporters away from the members, and the cluster from what Prometheus looks at."`
	PostgresPort  int      `yaml:"postgres_port" default:"9630" min:"1024" max:"65535" own:"true" effect:"move" unit:"TCP port" example:"9730" says:"The port of the PostgreSQL exporter, on every member."`
	PgBouncerPort int      `yaml:"pgbouncer_port" default:"9631" min:"1024" max:"65535" own:"true" effect:"move" unit:"TCP port" example:"9731" says:"The port of the PgBouncer exporter, on every member that has a pooler."`
	Interval      Duration `yaml:"interval" default:"10s" min:"1s" max:"5m" effect:"reload" example:"30s" says:"How often Prometheus looks at the cluster's members."`
	Retention     Duration `yaml:"retention" default:"15d" min:"1d" max:"3650d" effect:"restart" example:"30d" says:"How long Prometheus on nodes with role infra keeps what it saw. It has one store for all clusters: the longest that any of them wants; a change restarts it."`
}

// DefaultRetention is how long it is kept where no cluster says anything else, as
// Prometheus itself does.
const DefaultRetention = Duration(15 * 24 * 3600e9)

var _ = register(Kind{
	Name:    "monitor",
	Meaning: "The exporters beside every member, and what Prometheus on nodes with role infra makes of them.",
	store:   func(c *Cluster, _ string, doc any) { c.Monitor = *doc.(*Monitor) },
}, Monitor{}, nil)
