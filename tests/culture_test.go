// Package tests holds what is checked about the repository as a whole. The
// folders below it hold the lab, the tests on real hosts, the mutants and the
// benchmarks.
package tests

import (
	"bufio"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pgctrl/pgctrl/"

// TestPurePackagesStayPure: what decides must not be able to act. A forbidden
// import is an error with its reason.
func TestPurePackagesStayPure(t *testing.T) {
	pure := []string{"pkg/keys", "pkg/kv", "pkg/near", "pkg/version", "pkg/desired", "pkg/observed", "pkg/plan", "pkg/patroni", "pkg/status", "pkg/controllers", "pkg/hooks", "pkg/verdicts", "pkg/events", "pkg/projection", "pkg/trace", "pkg/operations"}
	forbidden := map[string]string{
		"os/exec":                      "deciding code starts no programs",
		"net/http":                     "deciding code talks to nobody",
		module + "pkg/host":            "only the agent drives the host",
		module + "pkg/store":           "deciding code sees etcd as a kv.Snapshot",
		"go.etcd.io/etcd/client":       "only pkg/store speaks to etcd",
		"github.com/jackc/pgx":         "only pkg/host/postgres speaks to PostgreSQL",
		"github.com/coreos/go-systemd": "only pkg/host/systemd speaks to systemd",
	}
	for _, p := range packages(t) {
		rel := strings.TrimPrefix(p.ImportPath, module)
		if !under(rel, pure) || strings.Contains(rel, "/internal/gen") {
			continue
		}
		for _, imp := range p.Imports {
			for bad, why := range forbidden {
				if strings.HasPrefix(imp, bad) {
					t.Errorf("%s imports %s: %s", rel, imp, why)
				}
			}
		}
	}
}

// TestImportsPointOneWay: controllers and agent meet in plan and nowhere else,
// and the agent does not carry etcd's server with it.
func TestImportsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		rel := strings.TrimPrefix(p.ImportPath, module)
		for _, dep := range p.Deps {
			dep := strings.TrimPrefix(dep, module)
			switch {
			case under(rel, []string{"pkg/agent", "cmd/pgagent"}) && (under(dep, []string{"pkg/controllers", "pkg/engine"})):
				t.Errorf("%s depends on %s: an agent follows by itself and computes no plans", rel, dep)
			case under(rel, []string{"pkg/controllers", "pkg/engine"}) && under(dep, []string{"pkg/agent", "pkg/host"}):
				t.Errorf("%s depends on %s: controllers never touch a host", rel, dep)
			case under(rel, []string{"cmd/pgagent", "pkg/agent"}) && strings.HasPrefix(dep, "go.etcd.io/etcd/server"):
				t.Errorf("%s links etcd's server (%s); it would triple the agent's size", rel, dep)
			}
		}
	}
}

// TestEveryPackageIsDocumented: a reader starts at the package comment.
func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// TestFilesAreOneSitting: past 400 lines a file wants to be several.
func TestFilesAreOneSitting(t *testing.T) {
	eachGoFile(t, func(path string) {
		f, err := os.Open(filepath.Join("..", path))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := 0
		for s := bufio.NewScanner(f); s.Scan(); {
			lines++
		}
		if lines > 400 {
			t.Errorf("%s has %d lines; split it", path, lines)
		}
	})
}

// TestOnlyKeysSpellsKeys: one place knows the layout.
func TestOnlyKeysSpellsKeys(t *testing.T) {
	eachGoFile(t, func(path string) {
		if strings.HasPrefix(path, "pkg/keys/") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "tests/") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", path), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			s, err := strconv.Unquote(lit.Value)
			if err == nil && (strings.HasPrefix(s, "/pgctrl/") || strings.HasPrefix(s, "/pg/")) {
				t.Errorf("%s spells the key %q; ask pkg/keys for it", path, s)
			}
			return true
		})
	})
}

type pkg struct {
	ImportPath string
	Doc        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,GoFiles,Imports,Deps", "./...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ps []pkg
	for dec := json.NewDecoder(out); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("go list: %v", err)
	}
	if len(ps) < 10 {
		t.Fatalf("go list found %d packages; this test looks at nothing", len(ps))
	}
	return ps
}

func under(rel string, roots []string) bool {
	for _, r := range roots {
		if rel == r || strings.HasPrefix(rel, r+"/") {
			return true
		}
	}
	return false
}

func eachGoFile(t *testing.T, do func(path string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, "../")
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "..") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, ".go") {
			do(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
