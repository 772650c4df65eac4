package desired

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// shape is what a value in a text looks like, before any schema.
type shape int

const (
	null shape = iota
	boolean
	integer
	float
	text
	list
	mapping
)

// value is one node of a document: a scalar, a list or a mapping, and where it is.
type value struct {
	shape shape
	// scalar holds bool, int64, float64 or string, by shape.
	scalar any
	// source is a scalar as it was written, without quotes.
	source       string
	line, column int
	items        []*value
	pairs        []pair
}

// pair is one entry of a mapping, in the order of the text.
type pair struct {
	key          string
	line, column int
	value        *value
}

// get is the entry with that key.
func (v *value) get(key string) (*value, bool) {
	for _, p := range v.pairs {
		if p.key == key {
			return p.value, true
		}
	}
	return nil, false
}

// found describes the value for a message: what there is instead of what was expected.
func (v *value) found() string {
	switch v.shape {
	case null:
		return "nothing"
	case list:
		return "a list"
	case mapping:
		return "a mapping"
	case text:
		return quote(v.source)
	}
	return v.source
}

// quote is s in quotes, cut so that a message stays a line.
func quote(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "..."
	}
	return strconv.Quote(s)
}

// The scalars of YAML 1.2's core schema. What yaml libraries add from 1.1 and Go
// (yes, off, 0777, 1_000, 0b1) is text here.
var (
	coreInt   = regexp.MustCompile(`^[-+]?[0-9]+$`)
	coreOctal = regexp.MustCompile(`^0o[0-7]+$`)
	coreHex   = regexp.MustCompile(`^0x[0-9a-fA-F]+$`)
	coreFloat = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	coreInf   = regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.nan|\.NaN|\.NAN)$`)
)

// plain resolves an unquoted scalar.
func plain(s string, line, column int) (*value, error) {
	v := &value{shape: text, scalar: s, source: s, line: line, column: column}
	switch s {
	case "", "~", "null", "Null", "NULL":
		v.shape, v.scalar = null, nil
		return v, nil
	case "true", "True", "TRUE":
		v.shape, v.scalar = boolean, true
		return v, nil
	case "false", "False", "FALSE":
		v.shape, v.scalar = boolean, false
		return v, nil
	}
	switch {
	case coreInt.MatchString(s):
		return v.number(strconv.ParseInt(strings.TrimPrefix(s, "+"), 10, 64))
	case coreOctal.MatchString(s):
		return v.number(strconv.ParseInt(s[2:], 8, 64))
	case coreHex.MatchString(s):
		return v.number(strconv.ParseInt(s[2:], 16, 64))
	case coreFloat.MatchString(s):
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsInf(f, 0) {
			return v, fmt.Errorf("expected a number that fits 64 bits, found %s", quote(s))
		}
		v.shape, v.scalar = float, f
	case coreInf.MatchString(s):
		return v, fmt.Errorf("expected a number, found %s", s)
	}
	return v, nil
}

func (v *value) number(n int64, err error) (*value, error) {
	if err != nil {
		return v, fmt.Errorf("expected a number that fits 64 bits, found %s", quote(v.source))
	}
	v.shape, v.scalar = integer, n
	return v, nil
}

// scalarValue is the tree of a Go scalar: bool, int, int64, float64, string,
// Duration or Size.
func scalarValue(x any) *value {
	switch x := x.(type) {
	case bool:
		return &value{shape: boolean, scalar: x, source: strconv.FormatBool(x)}
	case int:
		return scalarValue(int64(x))
	case int64:
		return &value{shape: integer, scalar: x, source: strconv.FormatInt(x, 10)}
	case float64:
		s := strconv.FormatFloat(x, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0" // or it would be read back as an integer
		}
		return &value{shape: float, scalar: x, source: s}
	}
	s := fmt.Sprint(x)
	return &value{shape: text, scalar: s, source: s}
}

// equal compares two trees by content, not by place or order of keys.
func (v *value) equal(w *value) bool {
	if v.shape != w.shape || v.scalar != w.scalar || len(v.items) != len(w.items) || len(v.pairs) != len(w.pairs) {
		return false
	}
	for i := range v.items {
		if !v.items[i].equal(w.items[i]) {
			return false
		}
	}
	for _, p := range v.pairs {
		if o, ok := w.get(p.key); !ok || !p.value.equal(o) {
			return false
		}
	}
	return true
}
