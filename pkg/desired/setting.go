package desired

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/near"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Setting is what a running PostgreSQL says of one of its parameters: a row of
// pg_settings.
type Setting struct {
	Name string
	// Type is bool, integer, real, string or enum.
	Type string
	// Unit is what a number without one counts: kB, 8kB, ms ...; empty: none.
	Unit string
	// Min and Max bound numbers, in Unit; empty: no bound.
	Min, Max string
	// Enum are the values of an enum.
	Enum []string
	// Context says when it may change: internal is never.
	Context string
}

// JudgeParameters finds the parameters, among those that a change of the document
// postgres sets, that the running server would not take. What it does not know but
// could after a restart, the settings of a library that is not loaded, passes.
func JudgeParameters(key string, changes []FieldChange, server []Setting) []Problem {
	known := map[string]Setting{}
	for _, s := range server {
		known[strings.ToLower(s.Name)] = s
	}
	var out []Problem
	for _, c := range changes {
		name, is := strings.CutPrefix(c.Field, "parameters.")
		if !is || c.New == "" {
			continue
		}
		v := scalarOf(c.New)
		if v == nil {
			continue // the document's own check has said so
		}
		s, there := known[strings.ToLower(name)]
		wrong, hint := "", ""
		if there {
			wrong, hint = s.judge(v)
		} else {
			wrong, hint = unknownSetting(name, known)
		}
		if wrong != "" {
			out = append(out, Problem{
				Key: key, Kind: "postgres", Field: c.Field, Message: wrong, Suggestion: hint, Reason: observed.InvalidDocument,
			})
		}
	}
	return out
}

// scalarOf reads one value as a document would spell it.
func scalarOf(text string) *value {
	root := (&reader{}).read([]byte("v: " + text))
	if root == nil {
		return nil
	}
	v, _ := root.get("v")
	return v
}

// unknownSetting: a name with a dot belongs to a library, and one that is not loaded
// has not told PostgreSQL its settings yet.
func unknownSetting(name string, known map[string]Setting) (wrong, hint string) {
	class, _, dotted := strings.Cut(name, ".")
	var names []string
	for n := range known {
		if !dotted || strings.HasPrefix(n, class+".") {
			names = append(names, n)
		}
	}
	if dotted && len(names) == 0 {
		return "", ""
	}
	slices.Sort(names)
	return "the running PostgreSQL has no parameter " + quote(name), near.Hint(name, names)
}

// judge says what is wrong with a value, by PostgreSQL's own rules.
func (s Setting) judge(v *value) (wrong, hint string) {
	text := v.source
	if b, is := v.scalar.(bool); is {
		text = map[bool]string{true: "on", false: "off"}[b]
	}
	no := fmt.Sprintf("expected %s, found %s", s.expects(), v.found())
	switch {
	case s.Context == "internal":
		return "PostgreSQL decides this parameter itself; nobody sets it", ""
	case s.Type == "bool" && !pgBool(text):
		return no, near.Hint(text, []string{"on", "off"})
	case s.Type == "enum" && !s.has(text):
		return no, near.Hint(text, s.Enum)
	case s.Type == "integer" || s.Type == "real":
		n, ok := s.number(text)
		if !ok || !s.within(n) {
			return no, s.unitHint(text)
		}
	}
	return "", ""
}

// expects is what PostgreSQL takes, in words.
func (s Setting) expects() string {
	switch s.Type {
	case "bool":
		return "on or off"
	case "enum":
		return "one of " + strings.Join(s.Enum, ", ")
	}
	out := map[string]string{"integer": "a whole number", "real": "a number"}[s.Type]
	if s.Min != "" && s.Max != "" {
		out += " from " + s.Min + " to " + s.Max
	}
	if s.Unit != "" {
		out += fmt.Sprintf(", counted in %s or with a unit (%s)", s.Unit, strings.Join(s.units(), ", "))
	}
	return out
}

// pgBool is PostgreSQL's parse_bool: any unambiguous beginning of these words.
func pgBool(s string) bool {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "" || s == "o" {
		return false
	}
	for _, w := range []string{"true", "false", "yes", "no", "on", "off"} {
		if strings.HasPrefix(w, s) {
			return true
		}
	}
	return s == "1" || s == "0"
}

// has compares as PostgreSQL does: without case, and an enum with on and off takes
// the other words for them, which pg_settings does not list.
func (s Setting) has(text string) bool {
	for _, e := range s.Enum {
		if strings.EqualFold(e, text) {
			return true
		}
	}
	words := map[string][]string{"on": {"true", "yes", "1"}, "off": {"false", "no", "0"}, "debug2": {"debug"}}
	for e, same := range words {
		if slices.Contains(s.Enum, e) && slices.Contains(same, strings.ToLower(text)) {
			return true
		}
	}
	return false
}

// PostgreSQL's units, the smallest first, and how many of the first each is.
var (
	memoryUnits = []string{"B", "kB", "MB", "GB", "TB"}
	timeUnits   = []string{"us", "ms", "s", "min", "h", "d"}
	unitSize    = map[string]float64{
		"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40,
		"us": 1, "ms": 1e3, "s": 1e6, "min": 60e6, "h": 3600e6, "d": 86400e6,
	}
)

func (s Setting) units() []string {
	_, base := s.base()
	switch {
	case slices.Contains(memoryUnits, base):
		return memoryUnits
	case slices.Contains(timeUnits, base):
		return timeUnits
	}
	return nil
}

// base splits a unit such as 8kB.
func (s Setting) base() (times float64, unit string) {
	unit = strings.TrimLeft(s.Unit, "0123456789")
	times, err := strconv.ParseFloat(strings.TrimSuffix(s.Unit, unit), 64)
	if err != nil {
		times = 1
	}
	return times, unit
}

// number reads a number as PostgreSQL does: any C notation, blanks around it, and a
// unit when the parameter has one. An integer is rounded.
func (s Setting) number(text string) (float64, bool) {
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := text[len(digits):]
	n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if i, e := strconv.ParseInt(text, 0, 64); e == nil { // hexadecimal and octal
		n, err, unit = float64(i), nil, ""
	}
	if err != nil || math.IsNaN(n) {
		return 0, false
	}
	if unit != "" {
		if !slices.Contains(s.units(), unit) {
			return 0, false
		}
		times, base := s.base()
		n = n * unitSize[unit] / (times * unitSize[base])
	}
	if s.Type == "integer" {
		n = math.RoundToEven(n)
	}
	return n, true
}

func (s Setting) within(n float64) bool {
	low, err1 := strconv.ParseFloat(s.Min, 64)
	high, err2 := strconv.ParseFloat(s.Max, 64)
	return (err1 != nil || n >= low) && (err2 != nil || n <= high)
}

// unitHint finds a unit whose case is not PostgreSQL's.
func (s Setting) unitHint(text string) string {
	digits := strings.TrimRight(text, " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := strings.TrimSpace(text[len(digits):])
	for _, u := range s.units() {
		if n, ok := s.number(digits + u); unit != "" && ok && s.within(n) &&
			(strings.EqualFold(u, unit) || strings.EqualFold(strings.TrimSuffix(u, "B"), unit)) {
			return fmt.Sprintf("did you mean %q?", digits+u)
		}
	}
	return ""
}
