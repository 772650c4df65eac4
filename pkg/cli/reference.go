package cli

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgctrl/pgctrl/internal/docgen"
)

// Commands is the tree of commands, to be looked at and not run.
func Commands() *cobra.Command { return newApp(Streams{}, Deps{}.withDefaults()).root() }

// Reference is the page about every command, made from what --help prints. agent is
// the tree of pgagent's.
func Reference(agent *cobra.Command) string {
	root := Commands()
	var b bytes.Buffer
	b.WriteString(docgen.Made("Commands", "the programs' own help"))
	b.WriteString("\n# pgctrl\n\n" + docgen.Text(root.Long) + "\n\nStandard output is data, standard error is progress. Exit codes: 0 done or no change, 1 error,\n" +
		"2 changes present (`--dry-run`) or not converged (`status`, and whatever waits).\n" +
		"Colours only on a terminal, and never when `NO_COLOR` is set.\n\n" +
		"Settings come from flags, then the environment (`PGCTRL_*`), then `" + DefaultConfigFile + "`, then defaults.\n\n")
	t := docgen.NewTable("setting", "environment", "default", "meaning")
	for _, s := range declared {
		t.Row(s.name, s.env(), s.def, s.help)
	}
	b.WriteString(t.String())
	referenceOf(&b, root)
	b.WriteString("\n# pgagent\n\n" + docgen.Text(agent.Long) + "\n")
	flagTable(&b, agent.PersistentFlags())
	referenceOf(&b, agent)
	return b.String()
}

func referenceOf(b *bytes.Buffer, c *cobra.Command) {
	if c.HasParent() && (!c.HasSubCommands() || c.Flags().HasFlags()) {
		fmt.Fprintf(b, "\n## %s\n\n", c.CommandPath())
		long := c.Long
		if long == "" {
			long = c.Short + "."
		}
		b.WriteString(docgen.Text(long))
		fmt.Fprintf(b, "\n\n    %s\n", usage(c))
		if c.Example != "" {
			fmt.Fprintf(b, "\nExamples:\n\n    %s\n", strings.ReplaceAll(strings.TrimSpace(c.Example), "\n  ", "\n    "))
		}
		flagTable(b, c.LocalFlags())
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			referenceOf(b, sub)
		}
	}
}

func flagTable(b *bytes.Buffer, flags *pflag.FlagSet) {
	t, rows := docgen.NewTable("flag", "meaning"), 0
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			t.Row(flagNames(f), flagHelp(f))
			rows++
		}
	})
	if rows > 0 {
		b.WriteString("\n" + t.String())
	}
}

func flagNames(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "`-" + f.Shorthand + "`, `--" + f.Name + "`"
	}
	return "`--" + f.Name + "`"
}

func flagHelp(f *pflag.Flag) string {
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
		return f.Usage + " (default " + f.DefValue + ")"
	}
	return f.Usage
}
