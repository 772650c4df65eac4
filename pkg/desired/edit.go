package desired

import (
	"fmt"
	"sort"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/near"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// SetFields merges assignments such as "port=5433", "roles=[infra]" or
// "parameters.pg_stat_statements.max=1000" into a document's text. The value is
// YAML, typed by the schema. Comments stay where that is possible. The error is
// Problems, one for each assignment that can't be.
func SetFields(document string, current []byte, assignments []string) ([]byte, error) {
	k, err := KindOf(document)
	if err != nil {
		return nil, err
	}
	var edits []edit
	var problems Problems
	for _, a := range assignments {
		es, p := k.assignment(document, a)
		if p != nil {
			problems = append(problems, *p)
			continue
		}
		edits = append(edits, es...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	// One order, whatever the order of the arguments; the last of equals wins.
	sort.SliceStable(edits, func(i, j int) bool { return edits[i].rank < edits[j].rank })
	return k.apply(document, current, edits)
}

// Unset removes fields from a document's text, so that they have their defaults
// again. A field that is not there is no error; one that can't be there is.
func Unset(document string, current []byte, fields []string) ([]byte, error) {
	k, err := KindOf(document)
	if err != nil {
		return nil, err
	}
	root, problems := k.tree(document, current)
	if len(problems) > 0 {
		return nil, problems
	}
	var edits []edit
	for _, field := range fields {
		path, known := k.path(field)
		if _, there := root.get(field); there && !known {
			path, known = []string{field}, true // that it is unknown is why it goes
		}
		if !known {
			problems = append(problems, k.unknown(document, field))
			continue
		}
		edits = append(edits, edit{path: path})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return k.apply(document, current, edits)
}

// edit sets or, with a nil value, removes what is at a path.
type edit struct {
	path  []string
	value *value
	rank  string
}

// path splits a dotted path into the keys of a document: what is below a map field
// is one key, dots included.
func (k *Kind) path(field string) ([]string, bool) {
	f, entry, ok := k.field(field)
	if !ok {
		return nil, false
	}
	path := strings.Split(f.Path, ".")
	if entry != "" {
		path = append(path, entry)
	}
	return path, true
}

func (k *Kind) unknown(document, field string) Problem {
	var names []string
	for _, f := range k.Fields {
		names = append(names, f.Path)
	}
	return k.assignProblem(document, field, near.Hint(field, names), fmt.Sprintf("unknown field %q", field))
}

// assignProblem has the document's name where other problems have a key.
func (k *Kind) assignProblem(document, field, hint, message string) Problem {
	return Problem{Key: document, Kind: k.Name, Field: field, Message: message, Suggestion: hint, Reason: observed.InvalidDocument}
}

// assignment reads one "field=value"; a mapping gives one edit for each entry.
func (k *Kind) assignment(document, a string) ([]edit, *Problem) {
	fail := func(field, hint, message string) ([]edit, *Problem) {
		p := k.assignProblem(document, field, hint, message)
		return nil, &p
	}
	name, raw, ok := strings.Cut(a, "=")
	name = strings.TrimSpace(name)
	if !ok {
		return fail("", "", fmt.Sprintf("expected field=value, found %s", quote(a)))
	}
	f, entry, known := k.field(name)
	if !known {
		p := k.unknown(document, name)
		return nil, &p
	}
	if strings.HasPrefix(document, "defaults/") && f.Own && nameOf(document) == "" {
		return fail(name, "", k.notShared())
	}
	v, err := f.assigned(entry, raw)
	if err != nil {
		return fail(name, "", err.Error())
	}
	if v.shape == null {
		return fail(name, "to have the default again: pgctrl unset", fmt.Sprintf("expected %s, found nothing", f.Expects()))
	}
	// Typed as a document would be: one decoder, one set of words.
	r, out := &reader{key: document, kind: k.Name}, settings{}
	if entry != "" {
		f.decodeEntry(r, pair{key: entry, value: v}, out)
	} else {
		f.decode(r, v, out)
	}
	if len(r.problems) > 0 {
		p := r.problems[0]
		p.Line, p.Column = 0, 0 // an argument has no lines
		return nil, &p
	}
	return k.edits(f, entry, v, out), nil
}

// edits are what one assignment does to the text.
func (k *Kind) edits(f *Field, entry string, v *value, out settings) []edit {
	rank := 0
	for i := range k.Fields {
		if k.Fields[i].Path == f.Path {
			rank = i
		}
	}
	path := strings.Split(f.Path, ".")
	if f.Type != Map {
		return []edit{{path: path, value: v, rank: fmt.Sprintf("%03d", rank)}}
	}
	var es []edit
	for _, p := range out.paths() {
		s := out[p]
		at := append(append([]string(nil), path...), s.entry)
		es = append(es, edit{path: at, value: scalarValue(s.value), rank: fmt.Sprintf("%03d %s", rank, s.entry)})
	}
	return es
}

// assigned reads the right-hand side. People write it in a shell, where quotes are
// awkward: text needs none, and a list may do without its brackets.
func (f *Field) assigned(entry, raw string) (*value, error) {
	s := strings.TrimSpace(raw)
	switch {
	case s == "":
		return &value{shape: null}, nil
	case s[0] == '\'' || s[0] == '"' || f.Type == Map && entry == "" || f.Type == List && s[0] == '[':
		r := &reader{}
		if v := r.any([]byte(raw)); v != nil && len(r.problems) == 0 {
			return v, nil
		} else if f.Type != Text && entry == "" && len(r.problems) > 0 {
			return nil, fmt.Errorf("%s", r.problems[0].Message)
		}
		return scalarValue(s), nil // such as: "$user", public
	case f.Type == List:
		v := &value{shape: list}
		for _, item := range strings.Split(s, ",") {
			v.items = append(v.items, scalarValue(strings.TrimSpace(item)))
		}
		return v, nil
	case f.Type == Text && entry == "":
		return scalarValue(s), nil
	}
	v, err := plain(s, 0, 0)
	if err != nil {
		return nil, err
	}
	return v, nil
}
