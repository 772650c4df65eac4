package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// reserved refuses a new member's document whose name still belongs to a member on
// another node: one without a document runs on, and two Patronis under one name delete
// each other's leader key (measured). Documents alone don't show it; plans do.
func (a *app) reserved(ctx context.Context, client *store.Client, l *live, c change) error {
	for _, key := range sortedKeys(c.writes) {
		ref, err := l.layout.Parse(key)
		member, ok := strings.CutPrefix(ref.Doc, "members/")
		if _, known := l.Get(key); err != nil || ref.Family != keys.Desired || !ok || known || c.writes[key] == nil {
			continue
		}
		if _, formed := l.Get(l.layout.FormedKey(ref.Cluster)); !formed {
			continue // nothing of it was ever on a host
		}
		wanted := desired.NodeOf(kv.KV{Key: key, Value: c.writes[key]})
		for _, node := range hostsOf(l) {
			if node == wanted {
				continue
			}
			e, found, err := client.Get(ctx, l.layout.PlanKey(node, ref.Cluster, "postgres"))
			if err != nil {
				return a.unreachable(err)
			}
			if !found {
				continue
			}
			if p, err := plan.ReadShort(e.Value); err == nil && p.Cluster.Member == member {
				return fail("%s", nothing(fmt.Sprintf("%s is still on node %s, unmanaged, and its name is reserved until it is removed there", member, node))).
					then("pgctrl set %s %s node=%s (to keep it), or another name", ref.Cluster, ref.Doc, node)
			}
		}
	}
	return nil
}

// hostsOf lists every node that has a document or an agent.
func hostsOf(l *live) []string {
	out := append(l.documents(scopeNodes), l.present()...)
	slices.Sort(out)
	return slices.Compact(out)
}
