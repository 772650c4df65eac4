// Package command is pgagent's command line: `run`, and what people ask an agent
// or do in its place. Standard output is data, standard error is progress; errors
// say the cause and the next command. Exit codes: 0 done, 1 error.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Streams are the program's.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

// app is what the commands share.
type app struct {
	Streams
	machine machine
}

// errSaid ends the program with 1 when everything has been said already.
var errSaid = errors.New("")

// Run runs one command line and returns its exit code.
func Run(ctx context.Context, args []string, s Streams) int {
	return run(ctx, args, s, thisMachine{})
}

func run(ctx context.Context, args []string, s Streams, m machine) int {
	if s.Getenv == nil {
		s.Getenv = os.Getenv
	}
	a := &app{Streams: s, machine: m}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if !errors.Is(err, errSaid) {
		fmt.Fprintln(s.Err, "error:", err)
	}
	return 1
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "pgagent", Short: "The agent of pgctrl: makes this host what its plans say and follows the leader",
		Long: `pgagent runs on every node. It makes the host what the node's plans say, confirms
the primary, and keeps HAProxy pointed at it, also while no pgctrl server runs.

Settings come from the first place that has them: flag, environment (PGAGENT_*),
file (` + config.DefaultFile + `), default. See: pgagent config dump`,
		Example:       "  pgagent join --endpoints http://10.10.10.1:2379\n  pgagent status\n  pgagent check",
		SilenceErrors: true, SilenceUsage: true,
		Version: version.String(),
	}
	config.AddFlags(root.PersistentFlags())
	root.AddCommand(a.runCommand(), a.joinCommand(), a.leaveCommand(), a.statusCommand(), a.routeCommand(), a.vipCommand(), a.poolCommand(), a.poolerExporterCommand(), a.replicaCommand(), a.checkCommand(),
		a.haproxyStateCommand(), a.scratchCommand(), a.hookCommand(), a.configCommand(), a.versionCommand())
	return root
}

func (a *app) load(cmd *cobra.Command) (config.Config, error) {
	return config.Load(cmd.Flags(), a.Getenv, os.Hostname)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "The version of this program", Args: cobra.NoArgs, Example: "  pgagent version",
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(a.Out, "pgagent", version.String())
			return nil
		},
	}
}

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "The settings of this program", Args: cobra.NoArgs}
	var format string
	dump := &cobra.Command{
		Use: "dump", Short: "Every setting, its value and where it came from", Args: cobra.NoArgs,
		Example: "  pgagent config dump\n  PGAGENT_LISTEN=:9999 pgagent config dump -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			return a.emit(format, cfg.Origins, func() {
				t := newTable("SETTING", "VALUE", "FROM", "MEANING")
				for _, o := range cfg.Origins {
					t.row(o.Name, o.Value, o.From, o.Help)
				}
				t.write(a.Out, a.style())
			})
		},
	}
	formatFlag(dump, &format)
	c.AddCommand(dump)
	return c
}

// logger writes JSON, or lines for people when standard error is a terminal.
func logger(cfg config.Config) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(cfg.LogLevel)
	if err != nil {
		return nil, err
	}
	c := zap.NewProductionConfig()
	c.Level = zap.NewAtomicLevelAt(level)
	c.Sampling = nil // every line is about something that happened once
	c.DisableCaller, c.DisableStacktrace = true, true
	c.EncoderConfig.EncodeTime = zapcore.ISO8601TimeEncoder
	c.EncoderConfig.EncodeDuration = zapcore.StringDurationEncoder
	if cfg.Log == "console" || cfg.Log == "auto" && term.IsTerminal(int(os.Stderr.Fd())) {
		c.Encoding = "console"
		c.EncoderConfig.EncodeLevel = zapcore.CapitalColorLevelEncoder
	}
	return c.Build()
}
