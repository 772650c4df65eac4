package tests

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages are what people read, by path from the repository's root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := texts(t, []string{".md"}, "README.md", "CHANGELOG.md", "docs")
	if len(out) < 8 {
		t.Fatalf("found %d pages; this test looks at too few", len(out))
	}
	return out
}

// texts reads the files with one of the endings under the roots.
func texts(t *testing.T, endings []string, roots ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, root := range roots {
		err := filepath.WalkDir(filepath.Join("..", root), func(path string, d fs.DirEntry, err error) error {
			if err == nil && slices.Contains(endings, filepath.Ext(path)) {
				rel := strings.TrimPrefix(path, "../")
				out[rel] = read(t, rel)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	// What a heading's anchor is without, as GitHub makes it.
	unlinked = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	source   = regexp.MustCompile("`((?:cmd|configs|docs|internal|pkg|tests|tools)/[^`\\s]*)`")
)

// TestLinksLeadSomewhere: every relative link is to a file that exists, and to a
// heading that it has; every path of this repository that is named is there.
func TestLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			to := page
			if target != "" {
				to = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join("..", to)); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(all[to]), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", page, m[1], to)
			}
		}
		for _, m := range source.FindAllStringSubmatch(text, -1) {
			pattern := strings.ReplaceAll(m[1], "Rn.", "R*.") // the rules' names
			if found, err := filepath.Glob(filepath.Join("..", pattern)); err != nil || len(found) == 0 {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

func anchors(text string) []string {
	var out []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		s := unlinked.ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(s, " ", "-"))
	}
	return out
}

// TestMakeTargetsExist: whatever the pages tell to make can be made.
func TestMakeTargetsExist(t *testing.T) {
	var targets []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets = append(targets, m[1])
	}
	makes, seen := regexp.MustCompile("(?m)(?:`|^ {4})make\\s+([a-z][a-z-]*)"), 0
	for page, text := range pages(t) {
		for _, m := range makes.FindAllStringSubmatch(text, -1) {
			seen++
			if !slices.Contains(targets, m[1]) {
				t.Errorf("%s names make %s, which the Makefile does not have", page, m[1])
			}
		}
	}
	if seen < 5 {
		t.Errorf("found %d targets in the pages; this test looks at too few", seen)
	}
}

// TestDependenciesHaveTheirReason: a module that is required has a line that says
// why, and a line is about a module that is required.
func TestDependenciesHaveTheirReason(t *testing.T) {
	page, required, direct := read(t, "docs/DEPENDENCIES.md"), map[string]bool{}, 0
	for _, m := range regexp.MustCompile(`(?m)^(?:require )?\s*([a-z0-9.-]+\.[a-z]+/\S+) v\S+( // indirect)?$`).FindAllStringSubmatch(read(t, "go.mod"), -1) {
		required[m[1]] = true
		if m[2] != "" {
			continue
		}
		direct++
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/DEPENDENCIES.md does not say why %s is required; when nothing imports it, run go mod tidy", m[1])
		}
	}
	if direct < 5 {
		t.Errorf("found %d modules in go.mod; this test looks at too few", direct)
	}
	for _, m := range regexp.MustCompile("`([a-z0-9-]+\\.[a-z.]+/[^`]+)`").FindAllStringSubmatch(page, -1) {
		if !required[m[1]] {
			t.Errorf("docs/DEPENDENCIES.md names %s, which go.mod does not require", m[1])
		}
	}
}
