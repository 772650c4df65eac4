package cli

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Reference is the page about every command, made from what --help prints.
func Reference() string {
	root := newApp(Streams{}, Deps{}.withDefaults()).root()
	var b bytes.Buffer
	b.WriteString("# Commands of pgctrl\n\nMade by `make generate` from the program's own help; do not edit.\n\n")
	b.WriteString(root.Long + "\n\nStandard output is data, standard error is progress. Exit codes: 0 done or no change, 1 error,\n" +
		"2 changes present (`--dry-run`) or not converged (`status`, and whatever waits).\n" +
		"Colours only on a terminal, and never when `NO_COLOR` is set.\n\n" +
		"Settings come from flags, then the environment (`PGCTRL_*`), then `" + DefaultConfigFile + "`, then defaults.\n\n")
	b.WriteString("| setting | environment | default | meaning |\n|---|---|---|---|\n")
	for _, s := range declared {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s.name, s.env(), s.def, s.help)
	}
	referenceOf(&b, root)
	return b.String()
}

func referenceOf(b *bytes.Buffer, c *cobra.Command) {
	if c.HasParent() && (!c.HasSubCommands() || c.Flags().HasFlags()) {
		fmt.Fprintf(b, "\n## %s\n\n", c.CommandPath())
		if c.Long != "" {
			b.WriteString(c.Long)
		} else {
			b.WriteString(c.Short + ".")
		}
		fmt.Fprintf(b, "\n\n    %s\n", usage(c))
		if c.Example != "" {
			fmt.Fprintf(b, "\nExamples:\n\n    %s\n", strings.ReplaceAll(strings.TrimSpace(c.Example), "\n  ", "\n    "))
		}
		var flags []string
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" {
				flags = append(flags, flagLine(f))
			}
		})
		if len(flags) > 0 {
			fmt.Fprintf(b, "\n| flag | meaning |\n|---|---|\n%s\n", strings.Join(flags, "\n"))
		}
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			referenceOf(b, sub)
		}
	}
}

func flagLine(f *pflag.Flag) string {
	name := "`--" + f.Name + "`"
	if f.Shorthand != "" {
		name = "`-" + f.Shorthand + "`, " + name
	}
	help := f.Usage
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
		help += " (default " + f.DefValue + ")"
	}
	return fmt.Sprintf("| %s | %s |", name, help)
}
