package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/server"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// The exit codes, which scripts rely on.
const (
	// Done: it is so, or there was nothing to change.
	Done = 0
	// Failed: an error; nothing was written unless the message says so.
	Failed = 1
	// NotConverged: changes are present (--dry-run) or not in force yet (status, --wait).
	NotConverged = 2
)

// Streams are where a command reads and writes. Out is for data, Err for progress
// and errors.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Deps is what a command needs from the world outside, so that a test can give
// it another one. The zero value of a field means the real thing.
type Deps struct {
	// Getenv reads the environment.
	Getenv func(string) string
	// Connect reaches etcd.
	Connect func(context.Context, store.Options) (*store.Client, error)
	// Etcd runs the embedded etcd; given by main, so that nothing else links it.
	Etcd func(context.Context, EtcdOptions) error
	// Restore makes the embedded etcd's data folder from a snapshot; given by main too.
	Restore func(EtcdOptions, EtcdRestore) (EtcdRestored, error)
	// Patroni asks the Patroni at a URL who it is; for acts that look at leaders first.
	Patroni func(ctx context.Context, url string) (patroni.Status, error)
	// Settings asks a cluster's primary what its PostgreSQL says of its parameters.
	Settings func(ctx context.Context, address string, port int, password string) ([]desired.Setting, error)
	// Room asks the agent at an address how many bytes are left for a data directory.
	Room func(ctx context.Context, address, data string) (uint64, error)
	// Server runs the controllers.
	Server func(context.Context, server.Options) error
	// Host changes this host, for init.
	Host Host
	// Now is the time; only differences of it are shown.
	Now func() time.Time
}

func (d Deps) withDefaults() Deps {
	if d.Getenv == nil {
		d.Getenv = os.Getenv
	}
	if d.Connect == nil {
		d.Connect = connect
	}
	if d.Server == nil {
		d.Server = server.Run
	}
	if d.Patroni == nil {
		d.Patroni = askPatroni
	}
	if d.Room == nil {
		d.Room = askRoom
	}
	if d.Settings == nil {
		d.Settings = postgres.RemoteSettings
	}
	if d.Host == nil {
		d.Host = thisHost{}
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return d
}

// Run runs one command line, without the program's name, and returns its exit code.
func Run(ctx context.Context, args []string, std Streams, deps Deps) int {
	a := newApp(std, deps.withDefaults())
	root := a.root()
	root.SetArgs(args)
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	err := root.ExecuteContext(ctx)
	a.close()
	return a.exit(err)
}

// app is one run of the program.
type app struct {
	Streams
	deps     Deps
	settings Settings
	out, err style
	format   string
	client   *store.Client
	etcd     *status.StoreHealth // how etcd was when it was asked; nil: it was not
	start    time.Time
}

func newApp(std Streams, deps Deps) *app {
	return &app{
		Streams: std, deps: deps, start: deps.Now(),
		out: styleFor(std.Out, deps.Getenv), err: styleFor(std.Err, deps.Getenv),
	}
}

// connect reaches etcd once per run.
func (a *app) connect(ctx context.Context) (*store.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	c, err := a.deps.Connect(ctx, store.Options{Endpoints: a.settings.Endpoints, DialTimeout: a.settings.Timeout})
	if err != nil {
		return nil, a.unreachable(err)
	}
	a.client = c
	return c, nil
}

func (a *app) close() {
	if a.client != nil {
		_ = a.client.Close() // nothing is left unsaid: every write was answered
	}
}

// exit prints an error the one way errors are printed and returns the code.
func (a *app) exit(err error) int {
	var code exitCode
	var f *failure
	switch {
	case err == nil:
		return Done
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(a.Err, a.err.red("error:"), "interrupted")
		return Failed
	case errors.As(err, &f):
	default:
		f = a.explain(err)
	}
	fmt.Fprintln(a.Err, a.err.red("error:"), f.cause)
	for _, n := range f.next {
		fmt.Fprintln(a.Err, "  next:", a.err.bold(n))
	}
	return Failed
}

// say writes a line of data.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.Out, format+"\n", args...) }

// note writes a line of progress.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.Err, format+"\n", args...) }
