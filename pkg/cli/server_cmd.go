package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/server"
	"github.com/pgctrl/pgctrl/pkg/store/snapshot"
)

func (a *app) serverCommand() *cobra.Command {
	run := func(cmd *cobra.Command, _ []string) error { return a.runServer(cmd.Context()) }
	c := &cobra.Command{
		Use: "server", Short: "Run the controllers",
		Long: "Runs the controllers in the foreground: documents in, plans for every host out.\n" +
			"Several servers may run, each with an --id of its own; one leads, and when it is gone\n" +
			"another takes over within 6 seconds. With none, routing still follows the leader.",
		Example: "  pgctrl server run\n  pgctrl server run --listen 127.0.0.1:9640 --log-level debug",
		Args:    cobra.NoArgs, RunE: run,
	}
	names := []string{"server.listen", "server.id", "server.log_level"}
	c.AddCommand(withSettings(&cobra.Command{Use: "run", Short: "Run the controllers in the foreground", Example: c.Example, Args: cobra.NoArgs, RunE: run}, names...))
	return withSettings(c, names...)
}

func (a *app) runServer(ctx context.Context) error {
	log, err := a.logger()
	if err != nil {
		return err
	}
	return a.deps.Server(ctx, server.Options{
		Endpoints: a.settings.Endpoints, Layout: a.settings.Layout, Connect: a.deps.Connect,
		Listen: a.settings.get("server.listen"), ID: a.settings.get("server.id"), Log: log,
	})
}

// logger writes JSON lines to standard error, which the journal keeps.
func (a *app) logger() (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(a.settings.get("server.log_level"))
	if err != nil {
		return nil, fail("server.log_level: expected debug, info, warn or error, found %q (from %s)", a.settings.get("server.log_level"), a.settings.source("server.log_level"))
	}
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeTime = zapcore.ISO8601TimeEncoder
	core := zapcore.NewCore(zapcore.NewJSONEncoder(encoder), zapcore.AddSync(a.Err), level)
	return zap.New(core), nil
}

// EtcdOptions say how the embedded etcd runs; etcdserver.Options are made of them
// in main, so that only main links etcd's server.
type EtcdOptions struct {
	Name, DataDir, Advertise, Listen string
	// StoreKey is the record in which the member says that snapshots fail.
	StoreKey   string
	Quota      int64
	Compaction time.Duration
	Log        *zap.Logger
}

var etcdSettings = []string{"etcd.name", "etcd.data_dir", "etcd.advertise", "etcd.listen", "etcd.quota", "etcd.keep"}

func (a *app) etcdCommand() *cobra.Command {
	c := &cobra.Command{Use: "etcd", Short: "The embedded etcd"}
	run := &cobra.Command{
		Use: "run", Short: "Run one etcd member in the foreground",
		Long: "Runs etcd inside this program, as a process apart from the server. It keeps its\n" +
			"data private (mode 0700), compacts its history after etcd.keep, and serves the\n" +
			"HTTP gateway that Patroni needs on the same port. One member is for trying out;\n" +
			"production wants three.",
		Example: "  pgctrl etcd run --advertise 10.10.10.1\n  pgctrl etcd run --data-dir /tmp/etcd --advertise 127.0.0.1",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runEtcd(cmd.Context()) },
	}
	c.AddCommand(withSettings(run, etcdSettings...), a.etcdBackup(), a.etcdRestore(), a.etcdAccept(), a.etcdCompact())
	return c
}

func (a *app) runEtcd(ctx context.Context) error {
	if a.deps.Etcd == nil {
		return fail("this program was built without etcd")
	}
	o, err := a.etcdOptions()
	if err != nil {
		return err
	}
	if o.Log, err = a.logger(); err != nil {
		return err
	}
	err = a.deps.Etcd(ctx, o)
	switch {
	case errors.Is(err, ErrEtcdBroken):
		f := fail("%s", err)
		if all, lerr := snapshot.List(a.snapshotFolder()); lerr == nil && len(all) > 0 {
			return f.then("pgctrl etcd restore %s --replace (the newest snapshot, %s old)", all[0].Path, shortly(a.deps.Now().Sub(all[0].Taken)))
		}
		return f.then("pgctrl etcd restore <file> --replace")
	case errors.Is(err, ErrEtcdRunning):
		return fail("an etcd runs with %s already", o.DataDir).then("systemctl status pgctrl-etcd")
	}
	return err
}

// etcdOptions are the settings of the embedded etcd.
func (a *app) etcdOptions() (EtcdOptions, error) {
	o := EtcdOptions{
		StoreKey: a.settings.Layout.StoreKey(),
		Name:     a.settings.get("etcd.name"), DataDir: a.settings.get("etcd.data_dir"),
		Advertise: a.settings.get("etcd.advertise"), Listen: a.settings.get("etcd.listen"),
	}
	if o.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return o, fmt.Errorf("name the etcd member: %w", err)
		}
		o.Name = host
	}
	quota, err := desired.ParseSize(a.settings.get("etcd.quota"))
	if err != nil {
		return o, fail("etcd.quota: %s (from %s)", err, a.settings.source("etcd.quota"))
	}
	o.Quota = quota.Bytes()
	o.Compaction, err = a.settings.duration("etcd.keep")
	return o, err
}
