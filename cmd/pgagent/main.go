// Command pgagent is the agent of pgctrl. Everything but the exit code happens in
// package command.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/pgctrl/pgctrl/pkg/agent/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
