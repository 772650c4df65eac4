package status

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// planned asks every concern what it would plan now and compares that with what is
// stored, then what is stored with what nodes report. It returns the nodes where
// something is not done.
func (c *computer) planned() map[string]bool {
	unfinished := map[string]bool{}
	secrets := c.secretRevisions()
	for _, concern := range c.Concerns {
		r, err := concern.Plan(controllers.Input{
			Cluster: c.Cluster, Layout: c.Layout, Now: c.Now, Snapshot: c.shownTo(concern, secrets),
		})
		if err != nil {
			c.add(concern.Name(), "", observed.Condition{
				Type: observed.Planned, Status: observed.False, Reason: observed.Internal, Message: err.Error(),
			})
			continue
		}
		for _, cond := range r.Conditions {
			node := ""
			if ref, err := c.Layout.Parse(cond.Key); err == nil {
				node = ref.Node
			}
			if cond.Type == observed.Valid {
				node = "" // about documents, whichever node they describe
			}
			c.add(concern.Name(), node, cond)
			unfinished[node] = unfinished[node] || Condition{Concern: concern.Name(), Condition: cond}.Blocking()
		}
		for _, o := range r.Outputs {
			if cond, node := c.written(o); cond != nil {
				c.add(concern.Name(), node, *cond)
				unfinished[node] = true
			}
		}
	}
	for _, node := range slices.Sorted(maps.Keys(c.plans)) {
		c.applied(node, unfinished)
	}
	return unfinished
}

// written reports an output that is not in etcd as the controller wants it.
func (c *computer) written(o controllers.Output) (*observed.Condition, string) {
	if o.Mode == controllers.Mint || o.Mode == controllers.Keep {
		return nil, "" // secrets are not looked at
	}
	ref, _ := c.Layout.Parse(o.Key)
	switch ref.Family {
	case keys.Secrets, keys.Authorities:
		return nil, ""
	case keys.Operations, keys.Steps, keys.Results:
		return nil, "" // one that is due has not been left undone
	}
	e, ok := kv.GetShort(c.Snapshot, o.Key)
	if o.Mode == controllers.Delete {
		if !ok {
			return nil, ref.Node
		}
		return &observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.Removing, Key: o.Key,
			Message: "what a removal left in etcd is about to go",
		}, ref.Node
	}
	if ok && (o.Mode == controllers.Once || samePlan(e.Value, o.Value)) {
		return nil, ref.Node
	}
	cond := &observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.NotPlanned, Key: o.Key,
		Message: "the documents have not been turned into this plan yet",
	}
	if ref.Family != keys.Plan {
		cond.Message = "the cluster is about to form"
	}
	return cond, ref.Node
}

// samePlan compares a stored plan, which may be short, with another without their
// writer: this program and the server need not be of one version.
func samePlan(held, other []byte) bool {
	if plan.Same(held, other) {
		return true
	}
	p, err := plan.ReadShort(held)
	q, err2 := plan.Decode(other)
	return err == nil && err2 == nil && p.SameBut(func(p *plan.Plan) { p.Writer = "" }, q)
}

// applied adds what a node reports of its plans, and what it does not.
func (c *computer) applied(node string, unfinished map[string]bool) {
	if !c.alive(node) {
		unfinished[node] = true
		c.add("", node, observed.Condition{
			Type: observed.Applied, Status: observed.Unknown, Reason: observed.NodeAbsent, Key: c.Layout.AliveKey(node),
			Message: fmt.Sprintf("the agent of node %s has no presence; what it did last stays in force", node),
			Next:    fmt.Sprintf("pgagent status (on %s)", node),
		})
		return
	}
	for _, concern := range slices.Sorted(maps.Keys(c.plans[node])) {
		p := c.plans[node][concern]
		r, ok := c.reports[node][concern]
		if !ok || r.Plan != p.revision {
			unfinished[node] = true
			c.add(concern, node, observed.Condition{
				Type: observed.Applied, Status: observed.False, Reason: observed.NotApplied, Key: p.key,
				Message: fmt.Sprintf("node %s has not answered its newest plan for %s yet", node, concern),
			})
			continue
		}
		for _, cond := range r.Conditions {
			if !worthSaying(cond) || c.saidOnce(cond) {
				continue
			}
			if cond.Reason == observed.Frozen && !cond.Bad() {
				c.add("", node, cond) // every concern of the node says so; once is enough
				continue
			}
			if cond.Key == "" {
				cond.Key = p.key
			}
			c.add(concern, node, cond)
			unfinished[node] = unfinished[node] || Condition{Concern: concern, Condition: cond}.Blocking()
		}
	}
}

// worthSaying leaves out what status finds by itself, once for the cluster rather
// than once for each node.
func worthSaying(c observed.Condition) bool {
	switch c.Reason {
	case observed.NoLeader, observed.NotConfirmed, observed.StandbyCluster, observed.PatroniTooOld, observed.PatroniPaused:
		return false
	}
	return c.Bad() || c.Reason == observed.Frozen || c.Reason == observed.AlteredByHand || c.Reason == observed.CertificateExpires || c.Reason == observed.Removed || c.Reason == observed.Overridden
}

// count adds up the nodes that are to have something, and those that have it all.
func (c *computer) count(unfinished map[string]bool) {
	nodes := map[string]bool{}
	if c.out.Exists {
		for _, n := range c.docs.ProxyNodes() {
			nodes[n] = true
		}
	}
	for n := range c.plans {
		nodes[n] = true
	}
	c.out.Nodes = len(nodes)
	for n := range nodes {
		// A fault in the documents is about no node and holds up all.
		if !unfinished[n] && !unfinished[""] && len(c.plans[n]) > 0 {
			c.out.Applied++
		}
	}
}
