package patroni

import (
	"context"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/near"
)

// about is what the PostgreSQL program says of one of its parameters.
type about struct{ kind, min, max string }

// describe asks the program for all its parameters, which needs no server: one line
// each, fields between tabs. Nothing when it does not answer; it makes messages
// better and decides nothing.
func describe(ctx context.Context, program string) map[string]about {
	out, err := exec.CommandContext(ctx, program, "--describe-config").Output()
	if err != nil {
		return nil
	}
	all := map[string]about{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) < 7 {
			continue
		}
		a := about{kind: strings.ToLower(f[3])}
		if a.kind == "integer" || a.kind == "real" {
			a.min, a.max = f[5], f[6]
		}
		all[strings.ToLower(f[0])] = a
	}
	return all
}

var quotedName = regexp.MustCompile(`parameter "([^"]+)"`)

// named puts the field of the document before PostgreSQL's words, and behind them what
// PostgreSQL takes or which name was meant.
func named(words []string, all map[string]about) []string {
	for i, w := range words {
		m := quotedName.FindStringSubmatch(w)
		if m == nil {
			continue
		}
		name := strings.ToLower(m[1])
		a, known := all[name]
		switch {
		case !known && len(all) > 0:
			if hint := near.Hint(name, slices.Sorted(maps.Keys(all))); hint != "" {
				w += "; " + hint
			}
		case a.min != "" && !strings.Contains(w, "valid range"):
			w += " (" + a.kind + " from " + a.min + " to " + a.max + ")"
		}
		words[i] = "parameters." + name + ": " + w
	}
	return words
}
