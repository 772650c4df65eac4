package main

import (
	"context"

	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/spf13/cobra"
)

// faultCommands are what breaks hosts and mends them.
func faultCommands(name *string) []*cobra.Command {
	signal, main := "SIGKILL", false
	kill := onHost(name, "kill HOST UNIT|PATTERN", "Send a signal to a unit (full name, .service) or to processes by a pattern of their command line", 2,
		func(ctx context.Context, h *lab.Host, args []string) error {
			if main {
				return h.KillMain(ctx, args[0], signal)
			}
			return h.Kill(ctx, args[0], signal)
		})
	kill.Example = "  lab kill pg1 patroni@pg-test.service --main\n  lab kill pg1 '^postgres: .*walwriter' -s STOP"
	kill.Flags().StringVarP(&signal, "signal", "s", signal, "which signal")
	kill.Flags().BoolVar(&main, "main", false, "only the unit's main process")

	oneWay := false
	cut := onHosts(name, "cut HOST [HOST...]", "Drop all frames between the first host and the others, or everybody",
		func(ctx context.Context, h *lab.Host, others []*lab.Host) error {
			if oneWay {
				return h.CutOneWay(ctx, others...)
			}
			return h.Cut(ctx, others...)
		})
	cut.Long = "Drop all frames, ARP too, between the first host and the others, or everybody. \"machine\" names this machine. Links stay up."
	cut.Flags().BoolVar(&oneWay, "one-way", false, "drop only what the first host sends")
	heal := onHosts(name, "heal [HOST [HOST...]]", "End cuts: all, those of a host, or those between the first and the others",
		func(ctx context.Context, h *lab.Host, others []*lab.Host) error { return h.Heal(ctx, others...) })
	heal.Args = cobra.ArbitraryArgs
	healSome := heal.RunE
	heal.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return healSome(cmd, args)
		}
		l, err := lab.Attach(*name)
		if err != nil {
			return err
		}
		return l.Heal(cmd.Context())
	}

	return []*cobra.Command{
		cut, heal, kill,
		onHost(name, "pause HOST UNIT", "Stop (SIGSTOP) all processes of a unit", 2,
			func(ctx context.Context, h *lab.Host, args []string) error { return h.Pause(ctx, args[0]) }),
		onHost(name, "resume HOST UNIT", "Continue a paused unit", 2,
			func(ctx context.Context, h *lab.Host, args []string) error { return h.Resume(ctx, args[0]) }),
		onHost(name, "freeze HOST", "Stop the whole host, as a paused virtual machine", 1,
			func(ctx context.Context, h *lab.Host, _ []string) error { return h.Freeze(ctx) }),
		onHost(name, "thaw HOST", "Continue a frozen host", 1,
			func(ctx context.Context, h *lab.Host, _ []string) error { return h.Thaw(ctx) }),
		onHost(name, "off HOST", "Crash a host: network and power gone at once", 1,
			func(ctx context.Context, h *lab.Host, _ []string) error { return h.PowerOff(ctx) }),
		onHost(name, "on HOST", "Boot a host that is off, with its disk as it was", 1,
			func(ctx context.Context, h *lab.Host, _ []string) error { return h.Boot(ctx) }),
		onHost(name, "reboot HOST", "Shut a host down in order and boot it again", 1,
			func(ctx context.Context, h *lab.Host, _ []string) error { return h.Reboot(ctx) }),
	}
}

// onHost is a command on one host with a fixed number of arguments, the host included.
func onHost(name *string, use, short string, arguments int, act func(context.Context, *lab.Host, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(arguments),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, h, err := find(*name, args[0])
			if err != nil {
				return err
			}
			return act(cmd.Context(), h, args[1:])
		},
	}
}

// onHosts is a command on a host and any number of others.
func onHosts(name *string, use, short string, act func(context.Context, *lab.Host, []*lab.Host) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var hosts []*lab.Host
			for _, arg := range args {
				_, h, err := find(*name, arg)
				if err != nil {
					return err
				}
				hosts = append(hosts, h)
			}
			return act(cmd.Context(), hosts[0], hosts[1:])
		},
	}
}
