package monitoring

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// quote is a text as YAML, on one line and without "{{".
func quote(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // of a string it can't fail
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "{{", `\u007b{`)
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
