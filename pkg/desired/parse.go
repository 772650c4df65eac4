package desired

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/near"
)

// parse types one value by the schema. wrong is empty when it fits; then x is a
// string, int, bool, Duration, Size, []string or map[string]any.
func (f *Field) parse(v *value) (x any, wrong, suggestion string) {
	if v.shape == null {
		return nil, fmt.Sprintf("expected %s, found nothing", f.Expects()), "remove the line to get the default"
	}
	switch f.Type {
	case Integer:
		return f.parseInteger(v)
	case Boolean:
		return f.parseBoolean(v)
	case Span, ByteSize:
		return f.parseMeasure(v)
	case List:
		return f.parseList(v)
	}
	return f.parseText(v)
}

// Expects is what belongs into the field, in words.
func (f *Field) Expects() string {
	switch {
	case len(f.Enum) > 0 && f.Type == List:
		return "a list of " + strings.Join(f.Enum, ", ")
	case len(f.Enum) == 1:
		return f.Enum[0]
	case len(f.Enum) > 0:
		return "one of " + strings.Join(f.Enum, ", ")
	case f.Format == "ip":
		return "an IP address"
	case f.Format == "cidr":
		return "an IP address with the length of its network"
	case f.Format == "node":
		return "the name of a node"
	case f.Type == Text && hbaWords[f.Format] != "":
		return hbaWords[f.Format]
	case f.Format == "path":
		return "an absolute path of plain names"
	case f.Format == "domain":
		return `a domain in small letters such as "db.example.org"`
	case f.Format == "webhook":
		return `an address such as "https://hooks.example.org/pgctrl", without a login or fragment`
	case f.Format == "program":
		return `the name of a program's file such as "page-oncall", without a folder`
	case f.Format == "event":
		return `a list of kinds of events such as "leader.changed", "backup.*" or "*"`
	case f.Format == "url" && f.Type == List:
		return `a list of base addresses such as "http://10.10.10.10:3100"`
	case f.Format == "url":
		return `a base address such as "http://10.10.10.10:3100"`
	case f.Format == "endpoint":
		return `the name of a host, with a port unless it is 443, such as "s3.example.org:9000"`
	case f.Format == "bucket":
		return `the name of a bucket such as "pg-backups"`
	case f.Format == "region":
		return `the name of a region such as "eu-central-1"`
	case f.Format == "cluster":
		return `the name of a cluster such as "pg-test"`
	case f.Format == "label":
		return `the label of a backup such as "20261126-010000F"`
	case f.Format == "target":
		return `a moment with its time zone, a name, a position in WAL or a transaction`
	case f.Format == "schedule":
		return `a schedule such as "0 1 * * *"`
	case f.Format == "time":
		return `a time such as "2026-01-31T18:30:00Z"`
	}
	switch f.Type {
	case Integer:
		return "a whole number" + f.bounds()
	case Boolean:
		return "true or false"
	case Span:
		if f.Min != "" {
			return "a duration" + f.bounds()
		}
		return `a duration such as "10s" (units ms, s, m, h, d)`
	case ByteSize:
		if f.Min != "" {
			return "a size" + f.bounds()
		}
		return `a size such as "16MB" (units B, kB, MB, GB, TB)`
	case List:
		return "a list"
	case Map:
		return `a mapping, such as "name: value"`
	}
	return "text"
}

func (f *Field) bounds() string {
	switch {
	case f.Min != "" && f.Max != "":
		return fmt.Sprintf(" from %s to %s", f.Min, f.Max)
	case f.Min != "":
		return " of at least " + f.Min
	case f.Max != "":
		return " of at most " + f.Max
	}
	return ""
}

func (f *Field) within(n int64) bool {
	return (f.min == nil || n >= *f.min) && (f.max == nil || n <= *f.max)
}

func (f *Field) mismatch(v *value) string {
	if f.Format == "webhook" && v.shape == text && secretive(v.source) {
		return fmt.Sprintf("expected %s, found another one", f.Expects())
	}
	if f.Format == "url" && v.shape == text && secretive(v.source) {
		return fmt.Sprintf("expected %s, found one with a login or more than an address in it", f.Expects())
	}
	return fmt.Sprintf("expected %s, found %s", f.Expects(), v.found())
}

// secretive reports whether an address may have a password in it, which no message must
// repeat (R11).
func secretive(s string) bool { return strings.ContainsAny(s, "@?#=&") }

func (f *Field) parseInteger(v *value) (any, string, string) {
	n, ok := v.scalar.(int64)
	if !ok || !f.within(n) {
		hint := ""
		if _, err := strconv.ParseInt(v.source, 10, 32); err == nil && v.shape == text {
			hint = "remove the quotes"
		}
		return nil, f.mismatch(v), hint
	}
	return int(n), "", ""
}

func (f *Field) parseBoolean(v *value) (any, string, string) {
	if b, ok := v.scalar.(bool); ok {
		return b, "", ""
	}
	hint := ""
	switch strings.ToLower(v.source) {
	case "yes", "on", "y", "true", "1":
		hint = "did you mean true?"
	case "no", "off", "n", "false", "0":
		hint = "did you mean false?"
	}
	return nil, f.mismatch(v), hint
}

func (f *Field) parseMeasure(v *value) (any, string, string) {
	if v.shape != text {
		hint := ""
		if v.shape == integer {
			hint = fmt.Sprintf("a number needs a unit; did you mean %q?", f.withUnit(v))
		}
		return nil, f.mismatch(v), hint
	}
	n, err := f.measure(v.source)
	if err != nil {
		return nil, f.mismatch(v), f.unitHint(v.source)
	}
	if !f.within(n) {
		return nil, f.mismatch(v), ""
	}
	if f.Type == Span {
		return Duration(n), "", ""
	}
	return Size(n), "", ""
}

// withUnit guesses what a bare number meant: bytes, or the unit of the default.
func (f *Field) withUnit(v *value) string {
	if n, ok := v.scalar.(int64); ok && f.Type == ByteSize && n >= 1024 {
		return Size(n).String()
	}
	return v.source + f.usualUnit()
}

// usualUnit is the unit of the field's default.
func (f *Field) usualUnit() string {
	if u := strings.TrimLeft(f.Default, "0123456789"); u != "" {
		return u
	}
	if f.Type == Span {
		return "s"
	}
	return "MB"
}

// unitHint finds what a duration or size with a slip in its unit meant: "16mb",
// "16 MB", "10sec".
func (f *Field) unitHint(s string) string {
	digits := strings.TrimRight(s, " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := strings.ToLower(strings.TrimSpace(s[len(digits):]))
	meant := map[string]string{
		"k": "kB", "kb": "kB", "kib": "kB", "m": "MB", "mb": "MB", "mib": "MB", "g": "GB", "gb": "GB", "gib": "GB",
		"t": "TB", "tb": "TB", "tib": "TB", "b": "B", "bytes": "B", "": f.usualUnit(),
	}
	if f.Type == Span {
		meant = map[string]string{
			"sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
			"msec": "ms", "hour": "h", "hours": "h", "day": "d", "days": "d", "ms": "ms", "s": "s", "m": "m", "h": "h", "d": "d",
			"": f.usualUnit(),
		}
	}
	u, known := meant[unit]
	if _, err := f.measure(digits + u); digits == "" || !known || err != nil {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", digits+u)
}

func (f *Field) parseText(v *value) (any, string, string) {
	if why, later := f.later[v.source]; later && v.shape == text {
		return nil, why, ""
	}
	if v.shape != text {
		if len(f.Enum) > 0 {
			return nil, f.mismatch(v), f.enumHint(v)
		}
		if v.shape == list || v.shape == mapping {
			return nil, f.mismatch(v), ""
		}
		return nil, f.mismatch(v), fmt.Sprintf("quote it: %q", v.source)
	}
	s := v.source
	if len(f.Enum) > 0 && !slices.Contains(f.Enum, s) {
		return nil, f.mismatch(v), f.enumHint(v)
	}
	if c := strings.IndexFunc(s, isControl); c >= 0 {
		return nil, fmt.Sprintf("expected %s on one line, found a line break or control character", f.Expects()), ""
	}
	if f.Format == "url" && secretive(s) {
		return nil, f.mismatch(v), ""
	}
	if f.pattern != nil && !f.pattern.MatchString(s) {
		return nil, f.mismatch(v), f.patternHint(s)
	}
	return f.formatted(v)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// enumHint is a near miss among the values. A document that says true where the
// values are off and on was written by somebody used to YAML 1.1.
func (f *Field) enumHint(v *value) string {
	if b, ok := v.scalar.(bool); ok {
		if word := map[bool]string{true: "on", false: "off"}[b]; slices.Contains(f.Enum, word) {
			return fmt.Sprintf("did you mean %q?", word)
		}
	}
	return near.Hint(v.source, f.Enum)
}

// pushPath is what promtail's own settings have behind the base address.
const pushPath = "/loki/api/v1/push"

// patternHint is the slip that people make most with an address: no scheme, or a slash at
// the end.
func (f *Field) patternHint(s string) string {
	if f.Format != "url" {
		return ""
	}
	for _, meant := range []string{strings.TrimRight(s, "/"), "http://" + strings.TrimRight(s, "/")} {
		if f.pattern.MatchString(meant) {
			return fmt.Sprintf("did you mean %q?", meant)
		}
	}
	return ""
}

func (f *Field) formatted(v *value) (any, string, string) {
	switch f.Format {
	case "ip":
		a, err := netip.ParseAddr(v.source)
		if err == nil && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() {
			return a.Unmap().String(), "", ""
		}
		if p, err := netip.ParsePrefix(v.source); err == nil {
			return nil, f.mismatch(v), fmt.Sprintf("did you mean %q?", p.Addr().String())
		}
		return nil, f.mismatch(v), ""
	case "cidr":
		return f.parseCIDR(v)
	case "hba address":
		return hbaAddress(v)
	case "url":
		if base, ok := strings.CutSuffix(v.source, pushPath); ok {
			return nil, f.mismatch(v), fmt.Sprintf("did you mean %q?", base)
		}
	case "webhook":
		if !webhookURL(v.source) {
			return nil, f.mismatch(v), ""
		}
	case "node":
		if err := keys.CheckNode(v.source); err != nil {
			return nil, err.Error(), ""
		}
	}
	return v.source, "", ""
}

func (f *Field) parseList(v *value) (any, string, string) {
	if v.shape != list {
		hint := ""
		if v.shape == text && v.source != "" && (f.Format != "url" || !secretive(v.source)) {
			hint = fmt.Sprintf("did you mean [%s]?", v.source)
		}
		return nil, f.mismatch(v), hint
	}
	out := make([]string, 0, len(v.items))
	one := *f
	one.Type = Text
	for _, item := range v.items {
		x, wrong, hint := one.parse(item)
		if wrong != "" {
			return nil, wrong, hint
		}
		if slices.Contains(out, x.(string)) && !f.Repeats {
			return nil, fmt.Sprintf("expected every value once, found %s twice", item.found()), ""
		}
		out = append(out, x.(string))
	}
	return out, "", ""
}
