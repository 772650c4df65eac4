package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutantsFit: a mutant whose place in the code has changed proves nothing any more, and is
// found out here and not when somebody runs them all.
func TestMutantsFit(t *testing.T) {
	files, err := filepath.Glob("mutants/*.patch")
	if err != nil || len(files) == 0 {
		t.Fatal("no mutants", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(b), "\ndiff --git ")[1:] {
			path, hunks := hunksOf(part)
			if path == "" {
				continue // it makes a file
			}
			text, err := os.ReadFile(filepath.Join("..", path))
			if err != nil {
				t.Errorf("%s: %v", f, err)
				continue
			}
			for _, h := range hunks {
				if !strings.Contains(string(text), h) {
					t.Errorf("%s does not fit %s, where this is no more:\n%s", f, path, h)
				}
			}
		}
	}
}

// hunksOf is what a patch of one file expects to find there.
func hunksOf(patch string) (path string, hunks []string) {
	var old strings.Builder
	body := false
	end := func() {
		if body {
			hunks = append(hunks, old.String())
		}
		old.Reset()
	}
	for line := range strings.Lines(patch) {
		switch {
		case !body && strings.HasPrefix(line, "--- a/"):
			path = strings.TrimSpace(strings.TrimPrefix(line, "--- a/"))
		case strings.HasPrefix(line, "@@"):
			end()
			body = true
		case body && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "-")):
			old.WriteString(line[1:])
		case body && line == "\n":
			old.WriteString(line)
		}
	}
	end()
	return path, hunks
}
