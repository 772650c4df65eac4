// Command gen writes the page about conditions and their reasons:
//
//	go run ./internal/gen ../../docs/conditions.md
package main

import (
	"maps"
	"slices"

	"github.com/pgctrl/pgctrl/internal/docgen"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

func main() {
	docgen.Main(func(paths []string) error { return docgen.Pages(paths, page()) }, "FILE")
}

const intro = `
A condition is one answer about a cluster or a node: a type, which says what it is about; True, False or Unknown; and, whenever it is not True, a reason,
which is one word for machines, a message for people and, where there is one, the next command. Unknown is its own answer: a program that could not be asked
has neither accepted nor refused anything. ` + "`pgctrl status`" + ` shows what applies now, ` + "`pgctrl explain <Reason>`" + ` prints one line of this page.

## Types

In the order in which a change passes them.

`

func page() string {
	types := docgen.NewTable("type", "True means")
	for _, t := range observed.Types {
		types.Row("`"+string(t.Type)+"`", t.Meaning)
	}
	reasons := docgen.NewTable("reason", "meaning")
	for _, r := range slices.Sorted(maps.Keys(observed.Meaning)) {
		reasons.Row("`"+string(r)+"`", observed.Meaning[r])
	}
	return docgen.Made("Conditions", "`pkg/observed`") + intro + types.String() +
		"\n## Reasons\n\n" + reasons.String()
}
