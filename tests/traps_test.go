package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTrapsHaveTests: docs/TESTING.md lists the faults of etcd and its client that
// others were bitten by. Each row names a test, and every test of that name is there.
func TestTrapsHaveTests(t *testing.T) {
	named := regexp.MustCompile("`(TestTrap_[A-Za-z]+)`")
	declared := map[string]string{}
	eachGoFile(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		b, err := os.ReadFile(filepath.Join("..", path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (TestTrap_[A-Za-z]+)\(`).FindAllStringSubmatch(string(b), -1) {
			declared[m[1]] = path
		}
	})
	listed := map[string]bool{}
	for _, m := range named.FindAllStringSubmatch(read(t, "docs/TESTING.md"), -1) {
		listed[m[1]] = true
		if declared[m[1]] == "" {
			t.Errorf("docs/TESTING.md names %s, which does not exist", m[1])
		}
	}
	for name, path := range declared {
		if !listed[name] {
			t.Errorf("%s in %s is not in docs/TESTING.md", name, path)
		}
	}
	if len(listed) < 7 {
		t.Errorf("%d traps are listed", len(listed))
	}
}
