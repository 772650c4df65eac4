package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// freeze adds what people asked to leave alone, while that holds. How long it still
// does is not said here: a status that changes with the clock would be written with it.
func (c *computer) freeze() {
	f := &c.docs.Freeze
	if end := f.End(); c.docs.Invalid("freeze") || !end.After(c.Now) {
		return
	}
	c.out.Freeze = &Freeze{Until: f.End(), Owner: f.Owner, Reason: f.Reason}
	what := "all of it"
	if len(f.Concerns) > 0 && !slices.Contains(f.Concerns, desired.AllConcerns) {
		c.out.Freeze.Concerns = f.Concerns
		what = strings.Join(f.Concerns, ", ")
	}
	message := fmt.Sprintf("%s is left alone until %s", what, f.End().Format(time.RFC3339))
	if f.Owner != "" {
		message += " by " + f.Owner
	}
	if f.Reason != "" {
		message += ": " + f.Reason
	}
	c.add("", "", observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.Frozen, Message: message,
		Next: "pgctrl unfreeze " + c.Cluster, Key: c.freezeKey(),
	})
}

func (c *computer) freezeKey() string { return c.Layout.ClusterDoc(c.Cluster, "freeze") }

// saidOnce reports a node's note about the freeze of the document, which is said for
// the cluster.
func (c *computer) saidOnce(cond observed.Condition) bool {
	return cond.Reason == observed.Frozen && !cond.Bad() && cond.Key == c.freezeKey()
}
