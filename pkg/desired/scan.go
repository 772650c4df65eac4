package desired

import (
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// encoding refuses bytes that are no text, before any parser sees them.
func (r *reader) encoding(data []byte) bool {
	line, column := 1, 1
	for i := 0; i < len(data); {
		c, n := utf8.DecodeRune(data[i:])
		switch {
		case c == utf8.RuneError && n <= 1:
			r.add(line, column, "", "", "expected UTF-8 text, found the byte 0x%02x", data[i])
			return false
		case c == '\n':
			line, column = line+1, 0
		case c < ' ' && c != '\t' && c != '\r' || c == 0x7f:
			r.add(line, column, "", "", "expected text, found the control character 0x%02x", c)
			return false
		}
		i += n
		column++
	}
	return true
}

// refused are the parts of YAML that documents do without, and why not.
var refused = map[token.Type]string{
	token.AnchorType:     `anchors are not used here; quote text that begins with "&"`,
	token.AliasType:      `aliases are not used here; quote text that begins with "*"`,
	token.TagType:        `tags are not used here; quote text that begins with "!"`,
	token.MergeKeyType:   `merge keys are not used here; what clusters share belongs into defaults/<document>`,
	token.DirectiveType:  `directives are not used here; quote text that begins with "%"`,
	token.MappingKeyType: `expected "key: value", found "?"`,
}

// scan looks at the tokens before the parser does: it finds what is refused, and
// bounds nesting. It reports whether there is no content at all.
func (r *reader) scan(tokens token.Tokens) (empty bool) {
	empty = true
	depth, entries, line, fields, ended := 0, 0, 0, 0, false
	for _, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		at := t.Position
		switch t.Type {
		case token.DocumentHeaderType, token.DocumentEndType:
			ended = ended || !empty
			continue
		}
		if ended {
			r.add(at.Line, at.Column, "", "", "expected one document, found a second one")
			return false
		}
		empty = false
		if why, ok := refused[t.Type]; ok {
			r.add(at.Line, at.Column, "", "", "%s", why)
			if t.Type == token.DirectiveType {
				return false // its words come as tokens of their own
			}
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.SequenceEntryType:
			if at.Line != line {
				line, entries = at.Line, 0
			}
			entries++
		case token.MappingValueType:
			fields++
		}
		if depth > maxDepth || entries > maxDepth {
			r.add(at.Line, at.Column, "", "", "expected at most %d levels, found more", maxDepth)
			return false
		}
		if fields > maxFields {
			r.add(at.Line, at.Column, "", "", "expected at most %d fields, found more", maxFields)
			return false
		}
	}
	return empty
}
