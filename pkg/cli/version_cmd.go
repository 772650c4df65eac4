package cli

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/version"
)

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "version", Short: "The version of this program", Args: cobra.NoArgs,
		Example: "  pgctrl version\n  pgctrl version -o json",
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
			}{version.String(), runtime.Version()}
			return a.emit(v, func() { a.say("pgctrl %s", v.Version) })
		},
	}
	return a.withFormat(c)
}
