package desired

import (
	"encoding/json"
	"regexp"
	"strings"
)

// safePlain is text that needs no quotes wherever it stands. Everything else is
// quoted, which is never wrong.
var safePlain = regexp.MustCompile(`^[A-Za-z0-9_/.$][A-Za-z0-9_/.$:+-]*$`)

// scalarText writes one scalar; flow says that it stands inside brackets.
func scalarText(v *value, flow bool) string {
	if v.shape == null {
		return "null"
	}
	if v.shape != text {
		return v.source
	}
	s := v.source
	p, err := plain(s, 0, 0)
	unquoted := safePlain.MatchString(s) || (!flow && regexpSpaced.MatchString(s))
	if err == nil && p.shape == text && unquoted && !strings.HasSuffix(s, ":") && !strings.HasPrefix(s, "...") {
		return s
	}
	return doubleQuoted(s)
}

// regexpSpaced is a few safe words, such as "8 MB" or "16MB, 32MB".
var regexpSpaced = regexp.MustCompile(`^[A-Za-z0-9_/.$]+(,? [A-Za-z0-9_/.$=-]*[A-Za-z0-9_/.$])*$`)

// doubleQuoted writes text with the escapes that JSON and YAML share.
func doubleQuoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	// Encoding a string can't fail.
	_ = e.Encode(s)
	return strings.TrimRight(b.String(), "\n")
}

// render writes a tree as block YAML, in the order of its pairs.
func render(v *value) []byte {
	var b strings.Builder
	if len(v.pairs) == 0 {
		return []byte("{}\n")
	}
	renderPairs(&b, v, "")
	return []byte(b.String())
}

func renderPairs(b *strings.Builder, v *value, indent string) {
	for _, p := range v.pairs {
		b.WriteString(indent)
		renderPair(b, p, indent)
	}
}

// renderPair writes "key: value" with whatever lines the value needs.
func renderPair(b *strings.Builder, p pair, indent string) {
	b.WriteString(scalarText(scalarValue(p.key), false) + ":")
	switch {
	case p.value.shape == mapping && len(p.value.pairs) > 0:
		b.WriteString("\n")
		renderPairs(b, p.value, indent+"  ")
		return
	case p.value.shape == mapping, p.value.shape == list:
		b.WriteString(" " + flowText(p.value))
	default:
		b.WriteString(" " + scalarText(p.value, false))
	}
	b.WriteString("\n")
}

// flowText writes a value on one line.
func flowText(v *value) string {
	var parts []string
	switch v.shape {
	case list:
		for _, item := range v.items {
			parts = append(parts, flowText(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case mapping:
		for _, p := range v.pairs {
			parts = append(parts, scalarText(scalarValue(p.key), true)+": "+flowText(p.value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return scalarText(v, true)
}
