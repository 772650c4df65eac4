package command

import "github.com/spf13/cobra"

// Commands is the tree of commands, to be looked at and not run.
func Commands() *cobra.Command { return (&app{}).root() }
