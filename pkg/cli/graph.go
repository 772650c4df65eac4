package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/all"
)

func (a *app) graphCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "graph", Short: "Which controller reads and writes which keys",
		Long: "Prints the controllers' declarations. They are enforced: a controller can read\n" +
			"nothing else, and exactly one writes a family of keys. It needs no etcd.",
		Example: "  pgctrl graph\n  pgctrl graph -o json", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			type node struct {
				Controller string   `json:"controller"`
				Reads      []string `json:"reads"`
				Writes     []string `json:"writes"`
			}
			var nodes []node
			for _, c := range all.All() {
				nodes = append(nodes, node{c.Name(), accesses(c.Inputs()), accesses(c.Outputs())})
			}
			return a.emit(nodes, func() {
				for i, n := range nodes {
					if i > 0 {
						a.say("")
					}
					a.say("%s", a.out.bold(n.Controller))
					for _, r := range n.Reads {
						a.say("  <- %s", r)
					}
					for _, w := range n.Writes {
						a.say("  -> %s", w)
					}
				}
			})
		},
	}
	return a.withFormat(c)
}

func accesses(as []controllers.Access) []string {
	out := []string{}
	for _, x := range as {
		s := string(x.Family)
		if x.Part != "" {
			s += "/" + strings.TrimPrefix(x.Part, "/")
		}
		if x.Fleet {
			s += " (of every cluster)"
		}
		out = append(out, s)
	}
	return out
}
