// Command pgctrl is the command line, the controllers and the embedded etcd of
// pgctrl. Everything but the exit code happens in package cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/pgctrl/pgctrl/pkg/cli"
	"github.com/pgctrl/pgctrl/pkg/etcdserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, cli.Deps{Etcd: runEtcd})
	stop()
	os.Exit(code)
}

func runEtcd(ctx context.Context, o cli.EtcdOptions) error {
	return etcdserver.Run(ctx, etcdserver.Options{
		Name: o.Name, DataDir: o.DataDir, Advertise: o.Advertise, Listen: o.Listen,
		Quota: o.Quota, Compaction: o.Compaction, Log: o.Log,
	})
}
