package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

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
	e, err := embed.StartEtcd(o.config())
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("start etcd: %w: %w", ErrPortTaken, err)
	}
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
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
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return fmt.Errorf("run etcd: %w", err)
	case <-e.Server.StopNotify():
		return errors.New("run etcd: the server stopped by itself")
	}
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
