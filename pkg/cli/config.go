package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "The settings of this program", Args: cobra.NoArgs}
	dump := &cobra.Command{
		Use: "dump", Short: "Every setting, its value and where it came from",
		Long:    "Prints every setting. A setting comes from the first place that has it: flag,\nenvironment, file (" + DefaultConfigFile + "), default.",
		Example: "  pgctrl config dump\n  PGCTRL_ENDPOINTS=http://10.0.0.1:2379 pgctrl config dump -o yaml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			type row struct {
				Name        string `json:"name"`
				Value       string `json:"value"`
				Source      string `json:"source"`
				Environment string `json:"environment"`
				Meaning     string `json:"meaning"`
			}
			var rows []row
			for _, d := range declared {
				o := a.settings.values[d.name]
				rows = append(rows, row{d.name, o.value, o.source, d.env(), d.help})
			}
			return a.emit(rows, func() {
				t := newTable(a.out, "SETTING", "VALUE", "FROM", "MEANING")
				for _, r := range rows {
					t.row(r.Name, r.Value, r.Source, r.Meaning)
				}
				t.write(a.Out)
			})
		},
	}
	c.AddCommand(a.withFormat(dump))
	return c
}
