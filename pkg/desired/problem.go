package desired

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Problem is one thing wrong with the documents, said so that a person can put
// it right without looking anything up.
type Problem struct {
	// Key is the etcd key to blame; empty when the text came from elsewhere.
	Key string `json:"key,omitempty"`
	// Kind is the document kind, such as "members"; empty for a key that has none.
	Kind string `json:"kind,omitempty"`
	// Line and Column count from 1; 0 when no place in a text is to blame.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Field is the dotted path, such as "parameters.max_connections".
	Field string `json:"field,omitempty"`
	// Message says what was expected and what was found.
	Message string `json:"message"`
	// Suggestion is a near miss or a way out; empty when there is none.
	Suggestion string `json:"suggestion,omitempty"`
	// Reason is the problem in one word, for machines.
	Reason observed.Reason `json:"reason"`
	// Nodes are the nodes on which ports collide; sorted, of PortConflict only.
	Nodes []string `json:"nodes,omitempty"`
	// Existing is set by Candidate on what was wrong before the change as well.
	Existing bool `json:"existing,omitempty"`
}

// String is the problem on one line, with the place it is in.
func (p Problem) String() string {
	var b strings.Builder
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", p.Line, p.Column)
	}
	b.WriteString(p.Text())
	return b.String()
}

// Text is the problem without its place: field, message and suggestion.
func (p Problem) Text() string {
	s := p.Message
	// A message that names the field itself needs no prefix.
	if p.Field != "" && !strings.Contains(p.Message, strconv.Quote(p.Field)) {
		s = p.Field + ": " + s
	}
	if p.Suggestion != "" {
		s += "; " + p.Suggestion
	}
	return s
}

// Error implements error, so that one problem can be returned as one.
func (p Problem) Error() string { return p.String() }

// Condition is the problem as status shows it.
func (p Problem) Condition() observed.Condition {
	q := p
	q.Key = ""
	c := observed.Condition{
		Type: observed.Valid, Status: observed.False, Reason: p.Reason,
		Message: q.String(), Key: p.Key,
	}
	if p.Kind != "" {
		c.Next = "pgctrl explain " + p.Kind
	}
	return c
}

// Aside reports a problem that leaves something out and nothing else: the port of a server that
// backups can do without.
func (p Problem) Aside() bool { return p.Kind == backupPort && p.Reason == observed.PortConflict }

// same reports whether two problems are one, wherever their lines have moved.
func (p Problem) same(q Problem) bool {
	return p.Key == q.Key && p.Field == q.Field && p.Message == q.Message && p.Reason == q.Reason
}

// Problems is a list of problems as an error; one line each.
type Problems []Problem

// Error implements error.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err is the list as an error, nil when it is empty.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// sortProblems orders problems by place, so that equal input gives equal output.
func sortProblems(ps []Problem) {
	sort.SliceStable(ps, func(i, j int) bool {
		a, b := ps[i], ps[j]
		switch {
		case a.Key != b.Key:
			return a.Key < b.Key
		case a.Line != b.Line:
			return a.Line < b.Line
		case a.Column != b.Column:
			return a.Column < b.Column
		}
		return a.Text() < b.Text()
	})
}
