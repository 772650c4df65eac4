package cli

import (
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// The output formats.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

var formats = []string{formatTable, formatWide, formatJSON, formatYAML}

// withFormat gives a command the flag -o.
func (a *app) withFormat(c *cobra.Command) *cobra.Command {
	c.Flags().StringVarP(&a.format, "output", "o", formatTable, "table, wide, json or yaml")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// emit prints a value in the chosen format; asTable prints it for people.
func (a *app) emit(value any, asTable func()) error {
	switch a.format {
	case "", formatTable, formatWide:
		asTable()
		return nil
	case formatJSON, formatYAML:
	default:
		return fail("output format %q is not known: expected %s", a.format, oneOf(formats))
	}
	b, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if a.format == formatYAML {
		// Through JSON, so that both formats have the same field names in the same order.
		if b, err = yaml.JSONToYAML(b); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		fmt.Fprint(a.Out, string(b))
		return nil
	}
	fmt.Fprintln(a.Out, string(b))
	return nil
}

func (a *app) wide() bool { return a.format == formatWide }
