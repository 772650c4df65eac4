package desired

import (
	"fmt"
	"sort"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/near"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// setting is one field, or one entry of a map field, that some document sets.
type setting struct {
	field *Field
	entry string
	value any
	// key, line and column say where it is written.
	key          string
	line, column int
}

// settings are the fields a document sets, by dotted path.
type settings map[string]setting

// paths are the settings' names in a stable order.
func (s settings) paths() []string {
	out := make([]string, 0, len(s))
	for p := range s {
		out = append(out, p)
	}
	sort.Strings(out)
	return out
}

// decode reads one document by its kind. What can be read is returned even when
// something else in it is wrong.
func (k *Kind) decode(key string, data []byte) (settings, []Problem) {
	r := &reader{key: key, kind: k.Name}
	root := r.read(data)
	out := settings{}
	if root != nil {
		k.walk(r, root, "", out)
	}
	return out, r.problems
}

// walk types a mapping by the fields below path.
func (k *Kind) walk(r *reader, m *value, path string, out settings) {
	names, group := k.children(path)
	for _, p := range m.pairs {
		field := join(path, p.key)
		deeper, known := group[p.key]
		switch {
		case !known:
			r.add(p.line, p.column, field, near.Hint(p.key, names), "unknown field %q", field)
		case deeper && p.value.shape != mapping:
			r.add(p.value.line, p.value.column, field, "", "expected a mapping, found %s", p.value.found())
		case deeper:
			k.walk(r, p.value, field, out)
		default:
			f, _, _ := k.field(field)
			f.decode(r, p.value, out)
		}
	}
}

// decode types one field's value into settings.
func (f *Field) decode(r *reader, v *value, out settings) {
	if f.Type == Map {
		f.decodeMap(r, v, out)
		return
	}
	x, wrong, hint := f.parse(v)
	if wrong != "" {
		r.add(v.line, v.column, f.Path, hint, "%s", wrong)
		return
	}
	out[f.Path] = setting{field: f, value: x, key: r.key, line: v.line, column: v.column}
}

func (f *Field) decodeMap(r *reader, v *value, out settings) {
	if v.shape != mapping {
		hint := ""
		if v.shape == null {
			hint = "remove the line to get the default, or write {}"
		}
		r.add(v.line, v.column, f.Path, hint, "%s", f.mismatch(v))
		return
	}
	for _, p := range v.pairs {
		f.decodeEntry(r, p, out)
	}
}

func (f *Field) decodeEntry(r *reader, p pair, out settings) {
	name, field := p.key, join(f.Path, p.key)
	switch p.value.shape {
	case null:
		r.add(p.line, p.column, field, "remove the line to get the default", "expected a value, found nothing")
		return
	case list, mapping:
		r.add(p.value.line, p.value.column, field, "", "expected text, a number, true or false, found %s", p.value.found())
		return
	case text:
		if strings.IndexFunc(p.value.source, isControl) >= 0 {
			r.add(p.value.line, p.value.column, field, "",
				"expected text on one line, found a line break or control character")
			return
		}
	}
	if f.entry != nil {
		canonical, wrong, hint := f.entry.check(p.key, p.value)
		if wrong != "" {
			r.add(p.line, p.column, field, hint, "%s", wrong)
			return
		}
		name = canonical
	}
	path := join(f.Path, name)
	if first, dup := out[path]; dup {
		r.add(p.line, p.column, field, "", "written twice; the first is on line %d", first.line)
		return
	}
	out[path] = setting{field: f, entry: name, value: p.value.scalar, key: r.key, line: p.value.line, column: p.value.column}
}

// problem is a problem with one field of a merged document, at the place where the
// field is written, or at the document when it has its default.
func (d *resolved) problem(field, format string, args ...any) Problem {
	p := Problem{
		Key: d.key, Kind: d.kind.Name, Field: field,
		Message: fmt.Sprintf(format, args...), Reason: observed.InvalidDocument,
	}
	if s, ok := d.set[field]; ok && s.key != "" {
		p.Key, p.Line, p.Column = s.key, s.line, s.column
	}
	return p
}
