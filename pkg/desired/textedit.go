package desired

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// apply makes edits in a text. Each is tried on the lines first, which keeps
// comments and order; if what comes out does not mean what was asked for, the
// document is written anew. So a text that nobody thought of costs its comments,
// never its content.
func (k *Kind) apply(document string, current []byte, edits []edit) ([]byte, error) {
	for _, e := range edits {
		root, problems := k.tree(document, current)
		if len(problems) > 0 {
			return nil, problems
		}
		want := k.change(root, e.path, e.value)
		if want.equal(root) {
			continue
		}
		lines := &lines{kind: k, all: strings.SplitAfter(string(current), "\n"), text: string(current)}
		next := lines.edit(root, e)
		if got, ps := k.tree(document, next); len(ps) > 0 || !got.equal(want) {
			next = render(want)
		}
		current = next
	}
	return current, nil
}

// tree reads a text without looking at its fields, so that a wrong one can be
// removed.
func (k *Kind) tree(document string, data []byte) (*value, Problems) {
	r := &reader{key: document, kind: k.Name}
	return r.read(data), r.problems
}

// index finds a key among pairs as the schema compares them: PostgreSQL's
// parameters ignore case.
func (k *Kind) index(pairs []pair, path []string) int {
	want := path[len(path)-1]
	return slices.IndexFunc(pairs, func(p pair) bool {
		return p.key == want || len(path) > 1 && path[0] == "parameters" && strings.EqualFold(p.key, want)
	})
}

// change returns the tree with one edit made. A mapping that loses its last entry
// goes with it.
func (k *Kind) change(root *value, path []string, to *value) *value {
	return k.changeAt(root, path, 1, to)
}

func (k *Kind) changeAt(v *value, path []string, depth int, to *value) *value {
	out := &value{shape: mapping, pairs: slices.Clone(v.pairs)}
	i := k.index(out.pairs, path[:depth])
	next := to
	if depth < len(path) {
		below := &value{shape: mapping}
		if i >= 0 && out.pairs[i].value.shape == mapping {
			below = out.pairs[i].value
		} else if to == nil {
			return out
		}
		if next = k.changeAt(below, path, depth+1, to); len(next.pairs) == 0 {
			next = nil
		}
	}
	switch {
	case next == nil && i >= 0:
		out.pairs = slices.Delete(out.pairs, i, i+1)
	case next != nil && i >= 0:
		out.pairs[i].value = next
	case next != nil:
		out.pairs = append(out.pairs, pair{key: path[depth-1], value: next})
	}
	return out
}

// lines edits a text by whole lines.
type lines struct {
	kind *Kind
	all  []string
	text string
}

// edit makes one edit at the deepest block mapping on its path.
func (t *lines) edit(root *value, e edit) []byte {
	at, depth := root, 1
	end := t.end(len(t.all), 1)
	for depth < len(e.path) {
		i := t.kind.index(at.pairs, e.path[:depth])
		if i < 0 || !t.block(at.pairs[i]) {
			break
		}
		if e.value == nil && len(at.pairs[i].value.pairs) == 1 {
			break // its last entry: the whole of it goes
		}
		end = t.endOf(at, i, end)
		at = at.pairs[i].value
		depth++
	}
	want := t.kind.changeAt(&value{shape: mapping, pairs: at.pairs}, e.path, depth, e.value)
	i, j := t.kind.index(at.pairs, e.path[:depth]), t.kind.index(want.pairs, e.path[:depth])
	indent := ""
	if len(at.pairs) > 0 {
		indent = strings.Repeat(" ", max(at.pairs[0].column-1, 0))
	}
	switch {
	case i >= 0 && j >= 0:
		p := at.pairs[i]
		p.value = want.pairs[j].value
		t.replace(p.line, t.endOf(at, i, end), t.write(p, indent, t.comment(p.line)))
	case i >= 0:
		t.replace(at.pairs[i].line, t.endOf(at, i, end), "")
	case j >= 0 && len(at.pairs) == 0:
		t.replace(len(t.all)+1, len(t.all)+1, t.write(want.pairs[j], "", ""))
	case j >= 0:
		t.replace(end, end, t.write(want.pairs[j], indent, ""))
	}
	return t.bytes()
}

// block reports whether an entry is a mapping on lines of its own.
func (t *lines) block(p pair) bool {
	for _, q := range p.value.pairs {
		if q.line <= p.line || q.column <= p.column {
			return false
		}
	}
	return p.value.shape == mapping && len(p.value.pairs) > 0
}

// endOf is the line after entry i of a mapping that ends before line end.
func (t *lines) endOf(m *value, i, end int) int {
	if i+1 < len(m.pairs) {
		end = m.pairs[i+1].line
	}
	return t.end(end-1, m.pairs[i].column)
}

// end is the line after the last one, up to line last, that belongs to what is
// indented to column: blank lines and comments before the next entry do not.
func (t *lines) end(last, column int) int {
	// The parser counts a lone carriage return as a line too, so its numbers can be
	// beyond ours. What comes of it is checked, and written anew, by apply.
	last = min(last, len(t.all))
	for last > 0 {
		line := t.all[last-1]
		trimmed := strings.TrimLeft(line, " ")
		comment := strings.HasPrefix(trimmed, "#") && len(line)-len(trimmed) < column
		if strings.TrimSpace(line) != "" && !comment {
			break
		}
		last--
	}
	return last + 1
}

// write is an entry as lines, with the comment that stood behind the old value.
func (t *lines) write(p pair, indent, comment string) string {
	var b strings.Builder
	b.WriteString(indent)
	renderPair(&b, p, indent)
	s := b.String()
	if comment != "" && strings.Count(s, "\n") == 1 {
		s = strings.TrimSuffix(s, "\n") + "  " + comment + "\n"
	}
	return s
}

// comment is the comment at the end of a line.
func (t *lines) comment(line int) string {
	for _, tk := range lexer.Tokenize(t.text) {
		if tk.Type == token.CommentType && tk.Position.Line == line {
			return "#" + strings.TrimRight(tk.Value, " \r\n")
		}
	}
	return ""
}

// replace puts text in place of the lines from first to before end, counted from 1.
func (t *lines) replace(first, end int, text string) {
	first, end = min(first, len(t.all)+1), min(end, len(t.all)+1)
	if first < 1 || end < first {
		return // positions nobody expected; the caller sees that nothing changed
	}
	if text != "" && first > 1 && !strings.HasSuffix(t.all[first-2], "\n") && t.all[first-2] != "" {
		t.all[first-2] += "\n"
	}
	t.all = slices.Concat(t.all[:first-1], []string{text}, t.all[end-1:])
}

// bytes is the text; what has no entry left says so rather than being empty.
func (t *lines) bytes() []byte {
	s := strings.Join(t.all, "")
	if strings.TrimSpace(s) == "" {
		return []byte("{}\n")
	}
	return []byte(s)
}
