package observed_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestEveryReasonIsExplained: a constant that is in no table is on no page and
// unknown to `pgctrl explain`.
func TestEveryReasonIsExplained(t *testing.T) {
	declared := constants(t)
	if len(declared["Reason"]) != len(observed.Meaning) || len(declared["Type"]) != len(observed.Types) {
		t.Errorf("%d reasons are declared and %d explained, %d types and %d",
			len(declared["Reason"]), len(observed.Meaning), len(declared["Type"]), len(observed.Types))
	}
	for _, r := range declared["Reason"] {
		if observed.Meaning[observed.Reason(r)] == "" {
			t.Errorf("reason %s has no meaning", r)
		}
	}
	for i, want := range declared["Type"] {
		if i < len(observed.Types) && (string(observed.Types[i].Type) != want || observed.Types[i].Meaning == "") {
			t.Errorf("type %s: explained as %v", want, observed.Types[i])
		}
	}
}

// constants reads the package's constants out of its source, by type.
func constants(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, name := range []string{"condition.go", "reasons.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			kind, named := spec.Type.(*ast.Ident)
			lit, text := spec.Values[0].(*ast.BasicLit)
			if named && text {
				v, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				out[kind.Name] = append(out[kind.Name], v)
			}
			return true
		})
	}
	return out
}

// A sick node must not count as done because a healthy condition stands first.
func TestDoneWantsEveryCondition(t *testing.T) {
	applied := observed.Condition{Type: observed.Applied, Status: observed.True}
	well := observed.Condition{Type: observed.Healthy, Status: observed.True, Reason: observed.PatroniTooOld}
	sick := observed.Condition{Type: observed.Healthy, Status: observed.False, Reason: observed.LeaderFlapping}
	refused := observed.Condition{Type: observed.Applied, Status: observed.False, Reason: observed.Rejected}
	for name, tc := range map[string]struct {
		plan  int64
		conds []observed.Condition
		want  bool
	}{
		"applied":                 {7, []observed.Condition{applied}, true},
		"applied and well":        {7, []observed.Condition{applied, well}, true},
		"well first, sick second": {7, []observed.Condition{applied, well, sick}, false},
		"a resource refused":      {7, []observed.Condition{applied, refused}, false},
		"another plan":            {6, []observed.Condition{applied}, false},
		"nothing said":            {7, nil, false},
	} {
		if got := (observed.Report{Plan: tc.plan, Conditions: tc.conds}).Done(7); got != tc.want {
			t.Errorf("%s: done %v, want %v", name, got, tc.want)
		}
	}
}

func TestPrimaryRecordsAreOrdered(t *testing.T) {
	at := func(epoch, seq int64) observed.Primary { return observed.Primary{Epoch: epoch, Sequence: seq} }
	if !at(2, 1).Replaces(at(1, 9)) || !at(2, 2).Replaces(at(2, 1)) || at(2, 1).Replaces(at(2, 1)) || at(1, 9).Replaces(at(2, 1)) {
		t.Error("a later epoch, or the next sequence under the same one, replaces; nothing else does")
	}
}
