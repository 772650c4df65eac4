package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// ErrRunning is returned when a member runs with the data folder.
var ErrRunning = errors.New("an etcd runs with it")

// ErrBroken is returned when etcd can't make sense of what the data folder holds.
var ErrBroken = errors.New("etcd can't use its data folder")

// ErrPortTaken is returned when something else listens on the member's ports.
var ErrPortTaken = errors.New("the port is taken")

// Run runs the member until ctx ends. It tells systemd when the member answers,
// so that what is ordered after the unit finds a store.
func Run(ctx context.Context, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	if err := privateDir(o.DataDir); err != nil {
		return err
	}
	e, err := start(o)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return fmt.Errorf("run etcd: %w", err)
	case <-ctx.Done():
		return nil
	}
	announce(o, e)
	client := v3client.New(e.Server)
	defer client.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { o.snapshots(ctx, client) })
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return fmt.Errorf("run etcd: %w", err)
	case <-e.Server.StopNotify():
		return errors.New("run etcd: the server stopped by itself")
	}
}

// start starts the member. Etcd panics, or ends the process, over a data folder
// that it can't make sense of; here that is an error like any other.
func start(o Options) (e *embed.Etcd, err error) {
	defer func() {
		if what := recover(); what != nil {
			e, err = nil, fmt.Errorf("start etcd: %w %s: %v", ErrBroken, o.DataDir, what)
		}
	}()
	occupied, err := holdsData(o.DataDir)
	if err != nil {
		return nil, err
	}
	if err := checkDatabase(o.DataDir); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	o.Log = o.Log.WithOptions(zap.WithFatalHook(zapcore.WriteThenPanic))
	e, err = embed.StartEtcd(o.config())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("start etcd: %w: %w", ErrPortTaken, err)
	case err != nil && occupied && !errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("start etcd: %w %s: %w", ErrBroken, o.DataDir, err)
	case err != nil:
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	return e, nil
}

func announce(o Options, e *embed.Etcd) {
	var clients []string
	for _, l := range e.Clients {
		clients = append(clients, "http://"+l.Addr().String())
	}
	o.Log.Info("etcd answers", zap.Strings("clients", clients), zap.String("data", o.DataDir))
	// Without systemd there is nobody to tell, which is no error.
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	if o.Ready != nil {
		o.Ready(clients)
	}
}

// privateDir makes the data folder readable by its owner alone, also when it was
// made by somebody else before.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("protect data folder: %w", err)
	}
	return nil
}
