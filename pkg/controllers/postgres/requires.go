package postgres

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
)

// quorumSince is the first Patroni with quorum commit. An older one would take the
// word for "on" (3.x: any text is true) and promise something else than was asked.
var quorumSince = patroni.Version{4, 0, 0}

// TooOld names the members' nodes whose Patroni is too old for what the documents ask,
// each with its version; alive is a node's presence. A node that is away is not judged.
func TooOld(docs *desired.Cluster, alive func(node string) (observed.Alive, bool)) (out []string) {
	if docs.Postgres.SynchronousMode != "quorum" {
		return nil
	}
	for _, m := range docs.MemberList() {
		a, there := alive(m.Node)
		if v := a.Programs["patroni"]; there && v != "" && patroni.ParseVersion(v).Less(quorumSince) {
			out = append(out, v+" on "+m.Node)
		}
	}
	return out
}

// QuorumWords say what is wrong with a Patroni that TooOld names.
const QuorumWords = "synchronous_mode: quorum needs Patroni 4.0 or later on every node, found "

// unfit is the condition; nothing is planned then.
func unfit(in controllers.Input, t *topology.Topology) []observed.Condition {
	old := TooOld(t.Docs, t.Alive)
	if len(old) == 0 {
		return nil
	}
	return []observed.Condition{{
		Type: observed.Valid, Status: observed.False, Reason: observed.InvalidDocument,
		Key:     cmp.Or(t.Docs.Source("postgres"), in.Layout.ClusterDoc(in.Cluster, "postgres")),
		Message: QuorumWords + strings.Join(old, ", "),
		Next:    fmt.Sprintf("pgctrl set %s postgres synchronous_mode=on", in.Cluster),
	}}
}
