package desired

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/pgctrl/pgctrl/pkg/kv"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestProblemTexts holds every error text as people read it. A case is documents,
// written under the tail of their key, and then what the fleet has to say about
// them.
func TestProblemTexts(t *testing.T) {
	const file = "testdata/problems.txtar"
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kvs []kv.KV
	for i, f := range archive.Files {
		if f.Name != "problems" {
			kvs = append(kvs, kv.KV{Key: l.DesiredPrefix() + f.Name, Value: bytes.TrimSuffix(f.Data, []byte("\n"))})
			continue
		}
		s := kv.NewMap(kvs...)
		got := say(append(fleetProblems(s, l, ""), Misplaced(s, l)...))
		if *update {
			archive.Files[i].Data = []byte(got)
		} else if got != string(f.Data) {
			t.Errorf("%s:\ngot:\n%s\nwant:\n%s", kvs[0].Key, got, f.Data)
		}
		kvs = nil
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEveryProblemHasItsPlace: a problem in a text names key, line, column.
func TestEveryProblemHasItsPlace(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/problems.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		if f.Name != "problems" {
			for _, p := range Validate(l, l.DesiredPrefix()+f.Name, f.Data) {
				required := strings.Contains(p.Message, "required")
				if p.Reason != "MisplacedKey" && !required && (p.Key == "" || p.Line == 0 || p.Column == 0) {
					t.Errorf("%s: no place", p)
				}
			}
		}
	}
}
