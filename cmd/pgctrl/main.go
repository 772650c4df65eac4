// Command pgctrl is the command line, the controllers and the embedded etcd of
// pgctrl. Everything but the exit code happens in package cli.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // time zones of backup schedules, where the host has no list of them

	"github.com/pgctrl/pgctrl/pkg/cli"
	"github.com/pgctrl/pgctrl/pkg/etcdserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, cli.Deps{Etcd: runEtcd, Restore: restoreEtcd})
	stop()
	os.Exit(code)
}

func options(o cli.EtcdOptions) etcdserver.Options {
	return etcdserver.Options{
		Name: o.Name, DataDir: o.DataDir, Advertise: o.Advertise, Listen: o.Listen,
		Quota: o.Quota, Compaction: o.Compaction, StoreKey: o.StoreKey, Log: o.Log,
	}
}

func runEtcd(ctx context.Context, o cli.EtcdOptions) error {
	return translate(etcdserver.Run(ctx, options(o)))
}

func restoreEtcd(o cli.EtcdOptions, r cli.EtcdRestore) (cli.EtcdRestored, error) {
	out, err := etcdserver.Restore{Options: options(o), File: r.File, Replace: r.Replace, Key: r.Key, Record: r.Record}.Run()
	return cli.EtcdRestored(out), translate(err)
}

// translate gives the errors that commands have words for the names they know.
func translate(err error) error {
	for from, to := range map[error]error{
		etcdserver.ErrBroken: cli.ErrEtcdBroken, etcdserver.ErrRunning: cli.ErrEtcdRunning, etcdserver.ErrNotEmpty: cli.ErrEtcdNotEmpty,
	} {
		if errors.Is(err, from) {
			return known{err, to}
		}
	}
	return err
}

// known is an error in its own words that is also another one.
type known struct {
	error
	is error
}

// Is implements what errors.Is asks for.
func (k known) Is(target error) bool { return target == k.is }

// Unwrap keeps what lies beneath.
func (k known) Unwrap() error { return k.error }
