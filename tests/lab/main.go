// Command lab brings up real hosts on this machine and lets a person break them: see `go run ./tests/lab --help`.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	var exit exitCode
	switch {
	case err == nil:
	case errors.As(err, &exit): // the command on the host has said what it had to say
		os.Exit(int(exit))
	default:
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// exitCode is the exit status of a command that ran on a host, which `lab exec` takes over.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// newCommand is the whole grammar; the lab's name is the one setting all commands share.
func newCommand() *cobra.Command {
	name := cmp.Or(os.Getenv("PGCTRL_LAB_NAME"), "lab")
	root := &cobra.Command{
		Use:   "lab",
		Short: "Real Debian hosts on one machine, to try and to break pgctrl",
		Long: `Real Debian hosts on one machine: systemd-nspawn machines on a bridge, each with systemd, PostgreSQL, Patroni, HAProxy, PgBouncer,
pgBackRest, dnsmasq and Prometheus as the distribution ships them. Needs root. The first "up" builds the base image (about a minute).
Hosts run until "down", also when this program or a test dies. Everything is below /var/cache/pgctrl-lab (PGCTRL_LAB_CACHE).`,
		Example: `  go run ./tests/lab up                          infra1 10.10.10.10, pg1 to pg3 10.10.10.11 to .13
  go run ./tests/lab install bin/pgctrl bin/pgagent
  go run ./tests/lab exec pg1 -- journalctl -f   a shell without a command: exec pg1
  go run ./tests/lab cut pg1 pg2                 partition; "cut pg1" from everybody, "cut pg1 machine" from this machine
  go run ./tests/lab heal
  go run ./tests/lab pause pg1 patroni@pg-test   SIGSTOP; resume continues
  go run ./tests/lab kill pg1 'postgres: .*checkpointer' -s KILL
  go run ./tests/lab off pg1                     crash of a host; "on" boots it again with its disk
  go run ./tests/lab down`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&name, "name", name, "which lab, when there are several")
	root.AddCommand(upCommand(&name), downCommand(&name), statusCommand(&name), imageCommand(), secondCommand())
	root.AddCommand(execCommand(&name), installCommand(&name), logsCommand(&name))
	root.AddCommand(faultCommands(&name)...)
	return root
}
