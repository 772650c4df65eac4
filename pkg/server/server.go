// Package server is `pgctrl server`: it connects to etcd, makes sure the store
// knows who it is, runs the controllers and answers over HTTP. It decides nothing;
// the engine and the controllers do.
//
// Nothing on any host depends on it being up: with every server stopped, routing
// still follows the leader (R1); documents have no effect meanwhile.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgctrl/pgctrl/pkg/arbiter"
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/all"
	"github.com/pgctrl/pgctrl/pkg/engine"
	"github.com/pgctrl/pgctrl/pkg/eventlog"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Options say how the server runs. Zero values mean defaults.
type Options struct {
	Endpoints []string
	Layout    keys.Layout
	// Listen is the address for /metrics, /healthz and /readyz.
	Listen string
	// ID tells this server from others; the host's name by default.
	ID string
	// Controllers are those of package all by default.
	Controllers []controllers.Controller
	Log         *zap.Logger
	// Connect reaches etcd; store.Connect by default.
	Connect func(context.Context, store.Options) (*store.Client, error)
	// Listening is called with the address once HTTP answers.
	Listening func(net.Addr)
}

// DefaultListen is the server's port (DESIGN section 4).
const DefaultListen = ":9640"

func (o Options) withDefaults() (Options, error) {
	if o.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			return o, fmt.Errorf("name the server: %w", err)
		}
		o.ID = host
	}
	if o.Layout == (keys.Layout{}) {
		o.Layout = keys.Default
	}
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.Controllers == nil {
		o.Controllers = all.All()
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Connect == nil {
		o.Connect = store.Connect
	}
	return o, nil
}

// Run runs the server until ctx ends. It waits for an etcd that is not there yet,
// and returns an error for what waiting does not cure.
func Run(ctx context.Context, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	saveMemory()
	s := &server{Options: o, registry: registry()}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second}
	g.Go(func() error {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return web.Close()
	})
	g.Go(func() error { return s.control(ctx) })
	// Ready for systemd means that it answers; /readyz says whether it controls. An
	// etcd that is down at boot must not become a restart loop of this unit.
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	o.Log.Info("server listens", zap.Stringer("address", listener.Addr()), zap.String("version", version.String()))
	if o.Listening != nil {
		o.Listening(listener.Addr())
	}
	return g.Wait()
}

func registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

type server struct {
	Options
	registry *prometheus.Registry
	engine   atomic.Pointer[prometheus.Registry] // of the controllers that run now
	state    state
}

// control runs the engine on a store that knows this program.
func (s *server) control(ctx context.Context) error {
	client, err := s.connect(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	defer func() { _ = client.Close() }() // whatever was written has been answered
	if err := s.introduce(ctx, client); err != nil || ctx.Err() != nil {
		return err
	}
	return s.whileTrusted(ctx, client, func(ctx context.Context) error { return s.plan(ctx, client) })
}

// plan runs the controllers until ctx ends.
func (s *server) plan(ctx context.Context, client *store.Client) error {
	metrics := prometheus.NewRegistry()
	s.engine.Store(metrics)
	stream, err := eventlog.New(eventlog.Options{Client: client, Layout: s.Layout, Log: s.Log, Registry: metrics})
	if err != nil {
		return err
	}
	asks := arbiter.New(arbiter.Options{Client: client, Layout: s.Layout, Version: version.String(), Log: s.Log})
	e, err := engine.New(engine.Options{
		Client: client, Layout: s.Layout, Controllers: s.Controllers, Concerned: all.Concerned, Log: s.Log,
		Registry: metrics, ID: s.ID, Version: version.String(),
		Beside: []func(context.Context, *store.Leadership){stream.Lead, s.deliver(client), asks.Lead},
	})
	if err != nil {
		return fmt.Errorf("set up controllers: %w", err)
	}
	if err := metrics.Register(newClusters(s.Layout, e.Seen)); err != nil {
		return fmt.Errorf("set up metrics: %w", err)
	}
	s.state.set(e, "")
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.announce(ctx, client, e) })
	g.Go(func() error {
		if err := e.Run(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("run controllers: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// connect waits for etcd. Only a server that is too old is no use waiting for.
func (s *server) connect(ctx context.Context) (*store.Client, error) {
	var client *store.Client
	err := s.retry(ctx, "connect to etcd", func() (err error) {
		client, err = s.Connect(ctx, store.Options{Endpoints: s.Endpoints, Log: s.Log})
		if errors.Is(err, store.ErrServerTooOld) {
			return backoff.Permanent(err)
		}
		return err
	})
	return client, err
}

// retry tries until it works or ctx ends, which is no error here.
func (s *server) retry(ctx context.Context, what string, try func() error) error {
	b := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	err := backoff.RetryNotify(try, backoff.WithContext(b, ctx), func(err error, next time.Duration) {
		s.state.set(nil, fmt.Sprintf("%s: %v", what, err))
		s.Log.Warn("cannot "+what+" yet", zap.Error(err), zap.Duration("again_in", next))
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}
