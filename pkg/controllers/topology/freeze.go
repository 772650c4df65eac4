package topology

import "github.com/pgctrl/pgctrl/pkg/plan"

// freezeKind is the document that every concern's plans take their freeze from.
const freezeKind = "freeze"

// freeze is what every plan of a concern carries about being left alone; nil when
// no document says so. Whether it has ended is for each node's clock to say.
func (t *Topology) freeze(concern string) *plan.Freeze {
	f := &t.Docs.Freeze
	if !f.Covers(concern) || f.End().IsZero() {
		return nil
	}
	return &plan.Freeze{Until: f.End(), Owner: f.Owner, Reason: f.Reason}
}
