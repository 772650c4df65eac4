package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `pgctrl runs PostgreSQL clusters on Linux hosts: you write what a cluster should
be, it makes every host so, and says why when something is not.

The first argument of a command is the cluster; a document is the tail of its
key (postgres, members/pg-test-1). "defaults" in place of the cluster means the
documents that every cluster inherits, "nodes" the hosts, "hooks" who is told of events.`

const rootExample = `  pgctrl init                                          set up etcd and the server on this host
  pgctrl create pg-test --on pg1,pg2,pg3               a cluster of three
  pgctrl status                                        every cluster, worst first
  pgctrl set pg-test postgres parameters.work_mem=16MB
  pgctrl explain postgres                              every field of a document`

// The groups in which `pgctrl help` lists commands.
const (
	groupClusters = "clusters"
	groupFleet    = "fleet"
	groupPrograms = "programs"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "pgctrl <command>", DisableFlagsInUseLine: true, Short: "PostgreSQL clusters on plain Linux hosts",
		Long: rootLong, Example: rootExample,
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions:          cobra.CompletionOptions{HiddenDefaultCmd: true},
		SuggestionsMinimumDistance: 2,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) (err error) {
			a.settings, err = resolve(cmd, a.deps.Getenv)
			return err
		},
	}
	root.PersistentFlags().String("config", "", "settings file (default "+DefaultConfigFile+")")
	for _, d := range declared {
		if d.name == "endpoints" || d.name == "timeout" {
			root.PersistentFlags().String(d.flag, "", d.help+" (default "+d.def+")")
			_ = root.PersistentFlags().SetAnnotation(d.flag, settingFlag, []string{d.name})
		}
	}
	root.AddGroup(
		&cobra.Group{ID: groupClusters, Title: "Clusters:"},
		&cobra.Group{ID: groupFleet, Title: "Hosts and documents:"},
		&cobra.Group{ID: groupPrograms, Title: "Programs:"},
	)
	group := func(id string, cs ...*cobra.Command) {
		for _, c := range cs {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	group(groupClusters, a.createCommand(), a.statusCommand(), a.setCommand(), a.unsetCommand(), a.removeCommand(), a.addCommand(), a.replaceCommand(),
		a.backupCommand(), a.restartCommand(), a.reinitCommand(), a.operationCommand(), a.hookCommand(), a.restoreCommand(), a.getCommand(), a.freezeCommand(), a.unfreezeCommand(), a.urlCommand(), a.psqlCommand(),
		a.userCommand(), a.databaseCommand(), a.hbaCommand(), a.secretCommand())
	group(groupFleet, a.nodeCommand(), a.explainCommand(), a.graphCommand())
	group(groupPrograms, a.initCommand(), a.etcdCommand(), a.serverCommand(), a.configCommand(), a.completionCommand(), a.versionCommand())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fail("%s", flagWords(err)).then("%s --help", c.CommandPath())
	})
	root.SetHelpCommand(&cobra.Command{Hidden: true, GroupID: groupPrograms}) // --help does, on everything
	// A command that only groups others is used by naming one of them.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .HasAvailableSubCommands}}\n  {{.CommandPath}} [command]{{end}}", "", 1))
	tidyArgs(root)
	return root
}

// flagWords is the flag library's error in our words.
func flagWords(err error) string {
	s := err.Error()
	s = strings.Replace(s, "unknown shorthand flag", "unknown flag", 1)
	return s
}

// tidyArgs gives every wrong number of arguments, and every unknown command, an
// error of the one shape that errors have.
func tidyArgs(c *cobra.Command) {
	check := c.Args
	c.Args = func(cmd *cobra.Command, args []string) error {
		if cmd.HasSubCommands() && len(args) > 0 && (check == nil || !cmd.Runnable()) {
			return unknownCommand(cmd, args[0])
		}
		if check == nil {
			return nil
		}
		if err := check(cmd, args); err != nil {
			return fail("expected: %s", usage(cmd)).then("%s --help", cmd.CommandPath())
		}
		return nil
	}
	for _, sub := range c.Commands() {
		tidyArgs(sub)
		if sub.HasSubCommands() && !sub.Runnable() {
			sub.Use += " <command>"
			sub.DisableFlagsInUseLine = true
		}
	}
	if c.HasSubCommands() && !c.Runnable() {
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

func usage(cmd *cobra.Command) string {
	return strings.TrimSuffix(cmd.UseLine(), " [flags]")
}

func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return fail("%s has no command %q%s", cmd.CommandPath(), name, didYouMean(name, names)).then("%s --help", cmd.CommandPath())
}
