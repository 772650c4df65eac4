package desired

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"
)

// LokiPort is where the Loki of a node with role infra answers.
const LokiPort = 3100

// DefaultLogRetention is how long a fleet that says nothing of it keeps its logs: two weeks
// and the weekend after which somebody asks.
const DefaultLogRetention = Duration(15 * 24 * time.Hour)

// Log is what of a cluster's logs is sent where: log.
type Log struct {
	Meta      `yaml:"-"`
	Enabled   bool     `yaml:"enabled" default:"true" effect:"reload" example:"false" says:"false sends nothing of the cluster anywhere; each host's journal has it all the same."`
	Endpoints []string `yaml:"endpoints" note:"every node with role infra, port 3100" format:"url" pattern:"^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?(/[A-Za-z0-9_.~-]+)*$" effect:"reload" example:"[https://loki.example.org]" says:"The base addresses of the Lokis that get everything, each of them; one that is away gets it later. Naming any takes the place of the fleet's own."`
	Streams   []string `yaml:"streams" note:"all" enum:"postgres,pgbouncer,patroni,pgbackrest,haproxy,pgagent" effect:"reload" example:"[postgres, patroni]" says:"Whose lines are sent; an empty list is everybody's."`
	Retention Duration `yaml:"retention" default:"15d" min:"24h" max:"1000d" effect:"reload" example:"30d" says:"How long the Lokis on nodes with role infra keep the cluster's lines. Other Lokis have rules of their own."`
}

// Sends reports whether the lines of a stream are sent.
func (l *Log) Sends(stream string) bool {
	return l.Enabled && (len(l.Streams) == 0 || slices.Contains(l.Streams, stream))
}

// LogStreams are the values of streams, in order.
func LogStreams() []string {
	f, _, _ := registry["log"].field("streams")
	return slices.Clone(f.Enum)
}

// OwnLoki is the base address of the Loki on a node with role infra.
func OwnLoki(n *Node) string {
	return "http://" + net.JoinHostPort(n.Address, strconv.Itoa(LokiPort))
}

var _ = register(Kind{
	Name:    "log",
	Meaning: fmt.Sprintf("What of the cluster's logs is sent where; without it everything, to the Loki of each node with role infra (port %d).", LokiPort),
	store:   func(c *Cluster, _ string, doc any) { c.Log = *doc.(*Log) },
}, Log{}, nil)
