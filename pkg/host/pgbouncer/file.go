package pgbouncer

import (
	"fmt"
	"strings"
)

// config is a configuration file of ours, read: sections of "key = value" lines.
type config map[string]map[string]string

// read takes a file apart. It knows what our template writes.
func read(content string) config {
	out, section := config{}, ""
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == ';' || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
			if out[section] == nil {
				out[section] = map[string]string{}
			}
		default:
			key, value, _ := strings.Cut(line, "=")
			if out[section] == nil {
				out[section] = map[string]string{}
			}
			out[section][strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return out
}

// pairs takes apart "host=/run port=5432".
func pairs(value string) map[string]string {
	out := map[string]string{}
	for _, f := range strings.Fields(value) {
		k, v, _ := strings.Cut(f, "=")
		out[k] = v
	}
	return out
}

// replace gives settings of the section [pgbouncer] other values, in place: line
// numbers stay, and so does what the program says about a line. Settings that are not
// there are left out.
func replace(content string, with map[string]string) string {
	var b strings.Builder
	section := ""
	for line := range strings.Lines(content) {
		bare := strings.TrimSpace(line)
		if strings.HasPrefix(bare, "[") {
			section = strings.Trim(bare, "[]")
		}
		key, _, assigns := strings.Cut(bare, "=")
		key = strings.TrimSpace(key)
		if v, ok := with[key]; ok && assigns && section == "pgbouncer" {
			line = fmt.Sprintf("%s = %s\n", key, v)
		}
		b.WriteString(line)
	}
	return b.String()
}
