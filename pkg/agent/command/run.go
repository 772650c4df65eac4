package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/internal/beat"
	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/version"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Run the agent (what pgagent.service does)",
		Long: `Runs until SIGTERM, which changes nothing on the host: HAProxy goes on by its own
checks, and the node counts as absent after ` + agent.PresenceTTL.String() + ` without an agent.`,
		Example: "  pgagent run\n  pgagent run --endpoints http://10.10.10.1:2379 --log console",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			log, err := logger(cfg)
			if err != nil {
				return err
			}
			defer func() { _ = log.Sync() }() // standard error can't be synced everywhere
			return runAgent(cmd.Context(), cfg, log)
		},
	}
}

func runAgent(ctx context.Context, cfg config.Config, log *zap.Logger) error {
	if os.Getenv("GOGC") == "" {
		// Its heap is a few MB and hardly grows: collecting twice as often costs nothing
		// that can be measured, and leaves the memory to the database.
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// Each wake-up has Go look for work on as many processors as it may use. One is
		// cheaper still, and moves took up to 0.4 s with it that take 0.07 s with two.
		runtime.GOMAXPROCS(min(2, runtime.GOMAXPROCS(0)))
	}
	unlock, err := lock(cfg.StateDir)
	if err != nil {
		return err
	}
	defer unlock()
	rhythm := beat.New(time.Now())
	host, err := wire(cfg, rhythm, log)
	if err != nil {
		return err
	}
	defer host.close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	ag, err := agent.New(agent.Options{
		Node: cfg.Node, Address: cfg.FindAddress, Version: version.String(), Layout: cfg.Layout, StateDir: cfg.StateDir,
		OverrideFile: overrideFile(cfg),
		Host:         host.Host, Endpoints: cfg.Endpoints, Beat: rhythm, Log: log, Registry: registry,
		Connect: func(ctx context.Context) (*store.Client, error) {
			return store.Connect(ctx, store.Options{Endpoints: cfg.Endpoints, Log: log})
		},
	})
	if err != nil {
		return err
	}
	control, err := listenControl(cfg.Socket)
	if err != nil {
		return err
	}
	stopControl := serve(control, ag.Control(), log)
	defer stopControl()
	if public, err := net.Listen("tcp", cfg.Listen); err != nil {
		// Routing does not hang on who scrapes it.
		log.Error("metrics are not served", zap.String("listen", cfg.Listen), zap.Error(err))
	} else {
		defer serve(public, ag.Handler(), log)()
	}
	log.Info("agent started", zap.String("node", cfg.Node), zap.String("version", version.String()), zap.Strings("endpoints", cfg.Endpoints))
	go watchdog(ctx, ag, rhythm, log)
	notify(daemon.SdNotifyReady, log)
	err = ag.Run(ctx)
	notify(daemon.SdNotifyStopping, log)
	log.Info("agent stopped; everything on the host stays as it is")
	return err
}

// lock makes sure that one agent runs with this state directory: two would undo
// each other's transactions.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another pgagent runs with %s; see: systemctl status pgagent", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// listenControl opens the control socket for root alone, from its first instant.
func listenControl(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of control socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	before := unix.Umask(0o177)
	defer unix.Umask(before)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return l, nil
}

// serve answers HTTP until the returned function is called.
func serve(l net.Listener, h http.Handler, log *zap.Logger) (stop func()) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ErrorLog: zap.NewStdLog(log)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("HTTP ended", zap.Stringer("address", l.Addr()), zap.Error(err))
		}
	}()
	return func() {
		_ = s.Close()
		<-done
	}
}

// watchdog tells systemd that the agent lives for as long as it really does.
func watchdog(ctx context.Context, ag *agent.Agent, rhythm beat.Beat, log *zap.Logger) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil || limit == 0 {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rhythm.Next(time.Now(), max(time.Second, (limit/3).Truncate(time.Second)))):
		}
		if err := ag.Healthy(); err != nil {
			log.Error("hung; systemd's watchdog is not fed", zap.Error(err))
			continue
		}
		notify(daemon.SdNotifyWatchdog, log)
	}
}

func notify(state string, log *zap.Logger) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd not notified", zap.String("state", state), zap.Error(err))
	}
}

// overrideFile is where what a person holds by hand outlives the agent, not the host.
func overrideFile(cfg config.Config) string {
	return filepath.Join(filepath.Dir(cfg.Socket), "overrides.json")
}
