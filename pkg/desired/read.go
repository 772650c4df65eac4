package desired

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// MaxDocument is the size a document may have. It is far above what people write
// and far below what etcd takes (1.5 MiB a request), so that a wrong file is told
// apart from a real one by a clear error.
const MaxDocument = 256 << 10

// maxDepth bounds nesting. No document needs more than three levels, and the
// YAML parser recurses: a text of "[[[[..." must not exhaust the stack.
const maxDepth = 16

// maxFields bounds the entries of all mappings together. The YAML parser takes
// quadratic time over them: 80,000 take 9 s, 5,000 take 40 ms (measured).
const maxFields = 5000

// maxProblems are listed of one document; nobody reads more.
const maxProblems = 20

// reader turns a text into a tree, collecting problems.
type reader struct {
	key, kind string
	problems  []Problem
}

func (r *reader) add(line, column int, field, suggestion, format string, args ...any) {
	if len(r.problems) > maxProblems {
		return
	}
	if len(r.problems) == maxProblems {
		line, column, field, suggestion = 0, 0, "", ""
		format, args = "further problems are not listed", nil
	}
	r.problems = append(r.problems, Problem{
		Key: r.key, Kind: r.kind, Line: line, Column: column, Field: field,
		Message: fmt.Sprintf(format, args...), Suggestion: suggestion, Reason: observed.InvalidDocument,
	})
}

// read parses a document. An empty one is an empty mapping: all defaults. The tree
// is nil when the text can't be read at all.
func (r *reader) read(data []byte) *value {
	v := r.any(data)
	if v != nil && v.shape != mapping {
		r.add(v.line, v.column, "", "", "expected fields, such as \"name: value\", found %s", v.found())
		return nil
	}
	return v
}

// any parses a text that is any value.
func (r *reader) any(data []byte) (root *value) {
	// The parser is a library fed with whatever people put into etcd; a fault in it
	// must cost one document, not the server.
	defer func() {
		if e := recover(); e != nil {
			r.add(0, 0, "", "", "expected YAML, found text that the parser fails on (%v)", e)
			root = nil
		}
	}()
	if len(data) > MaxDocument {
		r.add(0, 0, "", "", "expected a document of at most %d KiB, found %d KiB", MaxDocument>>10, (len(data)+1023)>>10)
		return nil
	}
	if !r.encoding(data) {
		return nil
	}
	tokens := lexer.Tokenize(string(bytes.TrimPrefix(data, []byte("\uFEFF"))))
	if empty := r.scan(tokens); len(r.problems) > 0 || empty {
		if len(r.problems) > 0 {
			return nil
		}
		return &value{shape: mapping, line: 1, column: 1}
	}
	// Duplicates are allowed here and found below, with all their fellows.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	return r.document(file)
}

func (r *reader) syntax(err error) {
	var e yaml.Error
	if !errors.As(err, &e) || e.GetToken() == nil || e.GetToken().Position == nil {
		r.add(0, 0, "", "", "expected YAML: %s", firstLine(err.Error()))
		return
	}
	at := e.GetToken().Position
	r.add(at.Line, at.Column, "", "", "expected YAML: %s", firstLine(e.GetMessage()))
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func (r *reader) document(file *ast.File) *value {
	var body ast.Node
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			body = d.Body
		}
	}
	if body == nil {
		return &value{shape: mapping, line: 1, column: 1}
	}
	return r.node(body, "", 0)
}

// node converts one node; nil when it is nothing that a document can hold.
func (r *reader) node(n ast.Node, path string, depth int) *value {
	line, column := position(n)
	if depth > maxDepth {
		r.add(line, column, path, "", "expected at most %d levels, found more", maxDepth)
		return nil
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return r.mapping(n.Values, path, line, column, depth)
	case *ast.MappingValueNode:
		return r.mapping([]*ast.MappingValueNode{n}, path, line, column, depth)
	case *ast.SequenceNode:
		v := &value{shape: list, line: line, column: column}
		for i, item := range n.Values {
			if w := r.node(item, fmt.Sprintf("%s[%d]", path, i), depth+1); w != nil {
				v.items = append(v.items, w)
			}
		}
		return v
	case *ast.LiteralNode:
		s := n.Value.Value
		return &value{shape: text, scalar: s, source: s, line: line, column: column}
	case *ast.StringNode:
		if n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType {
			return &value{shape: text, scalar: n.Value, source: n.Value, line: line, column: column}
		}
		return r.plain(n.Value, path, line, column)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return r.plain(n.GetToken().Value, path, line, column)
	case *ast.NullNode:
		return &value{shape: null, line: line, column: column}
	}
	r.add(line, column, path, "", "expected a value, found %s", strings.ToLower(n.Type().YAMLName()))
	return nil
}

func (r *reader) plain(s, path string, line, column int) *value {
	v, err := plain(s, line, column)
	if err != nil {
		r.add(line, column, path, "", "%s", err)
		return nil
	}
	return v
}

func (r *reader) mapping(pairs []*ast.MappingValueNode, path string, line, column, depth int) *value {
	v := &value{shape: mapping, line: line, column: column}
	seen := map[string]int{}
	for _, p := range pairs {
		key, ok := keyText(p.Key)
		kl, kc := position(p.Key)
		if len(v.pairs) == 0 {
			v.line, v.column = kl, kc
		}
		if !ok || key == "" {
			r.add(kl, kc, path, "", "expected a name before \":\", found %s", quote(p.Key.String()))
			continue
		}
		field := join(path, key)
		if first, dup := seen[key]; dup {
			r.add(kl, kc, field, "", "written twice; the first is on line %d", first)
			continue
		}
		seen[key] = kl
		if w := r.node(p.Value, field, depth+1); w != nil {
			v.pairs = append(v.pairs, pair{key: key, line: kl, column: kc, value: w})
		}
	}
	return v
}

func keyText(k ast.MapKeyNode) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return k.GetToken().Value, true
	}
	return "", false
}

func position(n ast.Node) (line, column int) {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0, 0
	}
	return n.GetToken().Position.Line, n.GetToken().Position.Column
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
