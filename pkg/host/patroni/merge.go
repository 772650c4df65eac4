package patroni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// compare says what of wanted is not so in the present configuration, and the
// smallest patch that makes it so. It follows Patroni's own merge: null removes a
// key, mappings merge, and two values are equal when Python writes them alike (30
// and "30" are, true and "true" are not). What it says equal a PATCH would not
// change, so nothing is patched for ever.
//
// The patch holds no null under a mapping that does not exist yet: Patroni would
// store the null.
func compare(present, wanted map[string]any) (plan.Diff, map[string]any) {
	return compareAt("", present, normal(wanted).(map[string]any))
}

func compareAt(path string, present, wanted map[string]any) (plan.Diff, map[string]any) {
	var diff plan.Diff
	patch := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		at := strings.TrimPrefix(path+"."+name, ".")
		want := wanted[name]
		have, exists := present[name]
		exists = exists && have != nil
		if want == nil {
			if exists {
				diff = append(diff, fmt.Sprintf("%s: is %s, wanted gone", at, show(have)))
				patch[name] = nil
			}
			continue
		}
		if sub, ok := want.(map[string]any); ok {
			haveSub, isMap := have.(map[string]any)
			if exists && !isMap {
				diff = append(diff, fmt.Sprintf("%s: is %s, wanted a mapping", at, show(have)))
				patch[name] = withoutNulls(sub)
				continue
			}
			d, p := compareAt(at, haveSub, sub)
			diff = append(diff, d...)
			if len(p) > 0 {
				patch[name] = p
			}
			continue
		}
		switch {
		case !exists:
			diff = append(diff, fmt.Sprintf("%s: is not set, wanted %s", at, show(want)))
			patch[name] = want
		case python(have) != python(want):
			diff = append(diff, fmt.Sprintf("%s: is %s, wanted %s", at, show(have), show(want)))
			patch[name] = want
		}
	}
	return diff, patch
}

func withoutNulls(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		if sub, ok := v.(map[string]any); ok {
			v = withoutNulls(sub)
		}
		if v != nil {
			out[k] = v
		}
	}
	return out
}

// merged is what Patroni would have after the patch.
func merged(present, patch map[string]any) map[string]any {
	out := maps.Clone(present)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range patch {
		sub, isMap := v.(map[string]any)
		have, haveMap := out[k].(map[string]any)
		switch {
		case v == nil:
			delete(out, k)
		case isMap && haveMap:
			out[k] = merged(have, sub)
		default:
			out[k] = v
		}
	}
	return out
}

// python is how Python's str() writes a value, as far as equality needs it.
func python(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		if v {
			return "True"
		}
		return "False"
	case json.Number:
		if f, err := v.Float64(); err == nil && strings.ContainsAny(v.String(), ".eE") {
			s := strconv.FormatFloat(f, 'f', -1, 64)
			if !strings.Contains(s, ".") {
				s += ".0"
			}
			return s
		}
		return v.String()
	default:
		return show(v)
	}
}

func show(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// normal turns values from wherever they came (YAML, a decoded plan, Go literals)
// into those that decode gives.
func normal(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return v
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var out any
	if err := d.Decode(&out); err != nil {
		return v
	}
	if m, ok := v.(map[string]any); ok && m == nil {
		return map[string]any{}
	}
	return out
}
