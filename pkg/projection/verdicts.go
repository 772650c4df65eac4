package projection

import (
	"strings"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

// verdict tells of operations that hooks kept from beginning, and of those that began without
// asking them. What was allowed is told by what follows from it.
func (m *moment) verdict(ref keys.Ref, c Change) {
	if c.New == nil {
		return
	}
	is, err := observed.Decode[verdicts.Verdict](*c.New)
	if err != nil || is.Schema > verdicts.Schema || !is.State.Final() {
		return
	}
	e := events.Event{Cluster: ref.Cluster, Subject: ref.Doc, By: is.By, Message: is.Words()}
	if is.Subject != is.Cluster && !strings.Contains(is.Subject, ",") {
		e.Member = is.Subject
	}
	if c.Old != nil {
		was, err := observed.Decode[verdicts.Verdict](*c.Old)
		if err != nil || was.State.Final() {
			return
		}
		e.Cause = revision(c.New.CreateRevision)
	}
	switch {
	case is.State == verdicts.Refused:
		e.Kind = events.OperationVetoed
	case is.Overridden():
		e.Kind = events.OperationOverridden
	default:
		return
	}
	if is.Why != "" {
		e.Message += " (" + is.Why + ")"
	}
	m.add(e)
}
