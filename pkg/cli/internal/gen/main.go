// Command gen writes the page about every command of both programs, and the one about the
// controllers and the keys between them:
//
//	go run ./internal/gen ../../docs/commands.md ../../docs/graph.md
package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/pgctrl/pgctrl/internal/docgen"
	"github.com/pgctrl/pgctrl/pkg/agent/command"
	"github.com/pgctrl/pgctrl/pkg/cli"
	"github.com/pgctrl/pgctrl/pkg/controllers/all"
	"github.com/pgctrl/pgctrl/pkg/engine"
)

func main() {
	docgen.Main(func(paths []string) error {
		graph, err := graph()
		if err != nil {
			return err
		}
		return docgen.Pages(paths, cli.Reference(command.Commands()), graph)
	}, "COMMANDS", "GRAPH")
}

const intro = `
Which controller reads and writes which keys. The declarations are enforced: a snapshot refuses what was not declared, and the engine does not start when
two controllers declare the same output. A thin arrow is read, a thick one written; "every cluster" means that a change in any cluster concerns all.

`

// graph is the engine's drawing of its controllers, and what `pgctrl graph` prints.
func graph() (string, error) {
	e, err := engine.New(engine.Options{Controllers: all.All()})
	if err != nil {
		return "", err
	}
	var text, errs bytes.Buffer
	none := cli.Deps{Getenv: func(string) string { return "" }}
	if code := cli.Run(context.Background(), []string{"graph"}, cli.Streams{Out: &text, Err: &errs}, none); code != cli.Done {
		return "", fmt.Errorf("pgctrl graph: %s", errs.String())
	}
	return docgen.Made("Controllers and keys", "the controllers' declarations") + intro +
		"```mermaid\n" + e.Graph() + "```\n\nThe same as `pgctrl graph` prints it:\n\n```text\n" + text.String() + "```\n", nil
}
