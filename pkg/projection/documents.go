package projection

import (
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// writer is who wrote documents with pgctrl: the record goes in the same transaction.
type writer struct {
	by, why, cause string
}

// changed is as much of the record as concerns events.
type changed struct {
	Who   string `json:"who"`
	From  string `json:"from"`
	Why   string `json:"why"`
	Cause string `json:"cause"`
}

func writerOf(l keys.Layout, changes []Change) writer {
	for _, c := range changes {
		if c.New == nil || !strings.HasPrefix(c.Key, l.Prefix(keys.Changes)) {
			continue
		}
		r, err := observed.Decode[changed](*c.New)
		if err != nil {
			continue
		}
		w := writer{by: r.Who, why: r.Why, cause: r.Cause}
		if r.From != "" && !strings.Contains(r.Who, "@") {
			w.by += "@" + r.From
		}
		return w
	}
	return writer{}
}

// maxFields is how many changed fields a message names.
const maxFields = 6

// document tells what changed in a document, field by field.
func (m *moment) document(ref keys.Ref, c Change) {
	e := events.Event{Kind: events.DocumentChanged, Cluster: ref.Cluster, Subject: ref.Doc, By: m.by.by}
	if e.Cluster == "" {
		e.Cluster = events.Fleet
	}
	switch ref.Family {
	case keys.Nodes:
		e.Subject, e.Node = "nodes/"+ref.Node, ref.Node
	case keys.Defaults:
		e.Subject = "defaults/" + ref.Doc
	}
	var was, is []byte
	if c.Old != nil {
		was, e.From = c.Old.Value, revision(c.Old.ModRevision)
	}
	if c.New != nil {
		is, e.To = c.New.Value, revision(c.New.ModRevision)
	} else {
		e.Kind = events.DocumentRemoved
	}
	e.Cause, e.Hops = causeOf(m.by.cause)
	e.Message = e.Subject + " " + said(documentOf(ref), was, is)
	if m.by.why != "" {
		e.Message += " (" + m.by.why + ")"
	}
	m.add(e)
}

// documentOf is the document's name as package desired spells it.
func documentOf(ref keys.Ref) string {
	if ref.Family == keys.Nodes {
		return "nodes/" + ref.Node
	}
	return ref.Doc
}

// said is what became of a document. The values of a hook are not told: people put tokens into
// addresses.
func said(document string, was, is []byte) string {
	fields := desired.Changes(document, was, is)
	switch {
	case is == nil:
		return "was deleted"
	case was == nil && len(fields) == 0:
		return "was written, and says what is so without it"
	case len(fields) == 0:
		return "was written again and means the same"
	}
	var parts []string
	for i, f := range fields {
		if i == maxFields {
			parts = append(parts, fmt.Sprintf("and %d more", len(fields)-maxFields))
			break
		}
		switch {
		case strings.HasPrefix(document, "hooks"):
			parts = append(parts, f.Field)
		case f.Old == "":
			parts = append(parts, fmt.Sprintf("%s=%s", f.Field, f.New))
		case f.New == "":
			parts = append(parts, f.Field+" unset")
		default:
			parts = append(parts, fmt.Sprintf("%s: %s -> %s", f.Field, f.Old, f.New))
		}
	}
	effect := ""
	if strongest := desired.Strongest(fields); strongest != desired.None {
		effect = fmt.Sprintf(" (%s)", strongest)
	}
	return strings.Join(parts, ", ") + effect
}

// causeOf reads the cause that a hook's command handed on: <cluster>/<id>, behind which the number
// of hooks before it may stand (+n).
func causeOf(s string) (cause string, hops int) {
	if s == "" {
		return "", 0
	}
	_, id, ok := strings.Cut(s, "/")
	id, n, counted := strings.Cut(id, "+")
	if _, err := events.ParseID(id); !ok || err != nil {
		return "", 0
	}
	hops = 1
	if counted {
		if _, err := fmt.Sscanf(n, "%d", &hops); err != nil || hops < 1 {
			return id, 1
		}
	}
	return id, hops
}
