package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/configs"
	"github.com/pgctrl/pgctrl/internal/beat"
	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/host/address"
	"github.com/pgctrl/pgctrl/pkg/host/disk"
	"github.com/pgctrl/pgctrl/pkg/host/dnsmasq"
	"github.com/pgctrl/pgctrl/pkg/host/file"
	"github.com/pgctrl/pgctrl/pkg/host/files/watch"
	"github.com/pgctrl/pgctrl/pkg/host/haproxy"
	"github.com/pgctrl/pgctrl/pkg/host/hookcmd"
	"github.com/pgctrl/pgctrl/pkg/host/inplace"
	"github.com/pgctrl/pgctrl/pkg/host/inventory"
	hostpatroni "github.com/pgctrl/pgctrl/pkg/host/patroni"
	"github.com/pgctrl/pgctrl/pkg/host/pgbackrest"
	"github.com/pgctrl/pgctrl/pkg/host/pgbouncer"
	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/host/scratch"
	"github.com/pgctrl/pgctrl/pkg/host/service"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// This file is the only one that knows both the agent and the host. Each adapter
// fits a part of pkg/host to the interface that the agent declares.

// wired is the real machine as the agent wants it; close ends what runs for it.
type wired struct {
	agent.Host
	inventory *inventory.Host
	close     func()
}

func wire(cfg config.Config, rhythm beat.Beat, log *zap.Logger) (wired, error) {
	program, err := os.Executable()
	if err != nil {
		return wired{}, fmt.Errorf("find this program: %w", err)
	}
	templates, err := configs.AgentTemplates(program)
	if err != nil {
		return wired{}, err
	}
	sd := systemd.New(systemd.Options{})
	inv := inventory.New(sd)
	inv.Record = takeoverRecord(cfg)
	addresses := address.New(address.Options{Log: log})
	router := newRouter(cfg, sd, log)
	events := watcher{watch.New(log), systemd.NewSignals(log)}
	backrest := pgbackrest.New(pgbackrest.Options{Node: cfg.Node, Systemd: sd, Log: log})
	restart := func(ctx context.Context, name string) error {
		return errors.Join(sd.Stop(ctx, name), sd.Start(ctx, name))
	}
	programs := map[string]unit.Program{
		"haproxy": haproxy.NewProgram(router),
		"patroni": hostpatroni.NewProgram(hostpatroni.Options{Hup: sd.ReloadUnit, Journal: sd.Journal, Log: log}),
		plan.Pooler: pgbouncer.NewProgram(pgbouncer.Options{
			Restart: restart, Free: inv.FreeFor, Log: log,
		}),
		plan.BackupServer: pgbackrest.NewServer(pgbackrest.ServerOptions{Restart: restart, Free: inv.FreeFor}),
		"dnsmasq":         dnsmasq.NewProgram(dnsmasq.Options{Restart: restart, Journal: sd.Journal}),
	}
	maps.Copy(programs, service.Programs(service.Options{
		Restart: restart, Hangup: sd.ReloadUnit, Environment: environment(sd), Free: inv.FreeFor, Journal: sd.Journal,
	}))
	drivers := func(cluster string, secret func(string) ([]byte, bool)) agent.Drivers {
		may := allowedFor(cluster)
		return agent.Drivers{
			Unit: unit.New(unit.Options{
				StateDir: cfg.StateDir, Systemd: sd, Programs: programs, Secret: secret, Templates: templates,
				AllowPaths: may.folders, AllowUnits: may.units,
				Version: func(name string) string { return inv.Version(context.Background(), name) },
				Log:     log,
			}),
			Patroni: hostpatroni.NewDriver(hostpatroni.DriverOptions{ConfigPath: patroniFile(cluster)}),
			SQL:     objects{postgres.NewObjects(postgres.ObjectOptions{Secret: secret})},
			File:    file.New(file.Options{AllowPaths: may.files, Secret: secret}),
		}
	}
	return wired{
		Host: agent.Host{
			Drivers: drivers, Router: routes{router, haproxy.NewProgram(router)},
			Postgres: func(cluster string, own plan.Member) agent.PostgresWatcher {
				return newLocalPostgres(postgres.Config{Port: own.Port, Beat: rhythm}, log.With(zap.String("cluster", cluster)))
			},
			Pooler: func(cluster string) agent.PoolerWatcher {
				return localPooler{pgbouncer.NewWatcher(plan.PoolerDir(cluster), log.With(zap.String("cluster", cluster)))}
			},
			Peers: peers{}, Inventory: inv, Takeover: takeover{inv},
			SetAside:  func(_ context.Context, data, uid string) (string, error) { return postgres.SetAside(data, uid) },
			Addresses: addresses, Patroni: loopback{}, Acts: acts{},
			InPlace: &inplace.Driver{Systemd: sd},
			Hooks: hookRuns{hookcmd.New(hookcmd.Options{
				Dir: cfg.HooksDir, Node: cfg.Node, State: cfg.StateDir + "/hooks", Pgagent: program, Systemd: sd,
			})},
			Backups: localBackups{backrest}, BackupRuns: backupRuns{backrest},
			Scratch: scratchRuns{scratch.New(scratch.Options{Node: cfg.Node, Systemd: sd, Log: log, State: cfg.StateDir + "/scratch"})}, ArchiveWords: backrest.Words, ArchiveDropped: backrest.Dropped,
			Streams: postgres.SayStreams(plan.StreamsFile),
			Expires: hostpatroni.Expires, Rooms: roomsWith(backrest.Local), Roots: dataRoots, Clock: clockOf(cfg.Endpoints),
			Watcher: events, Repairs: setByHand(router), Contested: router.Contested,
		},
		inventory: inv,
		close:     func() { events.close(); addresses.Close(); router.Close(); sd.Close() },
	}, nil
}

// environment is what a unit's main process was started with.
func environment(sd *systemd.Manager) func(context.Context, string) ([]string, error) {
	return func(ctx context.Context, name string) ([]string, error) {
		st, err := sd.Status(ctx, name)
		if err != nil {
			return nil, err
		}
		if st.MainPID == 0 {
			return nil, fmt.Errorf("%s: %w", name, service.ErrNoProcess)
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", st.MainPID))
		if err != nil {
			return nil, fmt.Errorf("read the environment of %s: %w", name, err)
		}
		return strings.Split(string(b), "\x00"), nil
	}
}

// takeoverRecord is where it is noted what the distribution had running.
func takeoverRecord(cfg config.Config) string { return cfg.StateDir + "/takeover.json" }

func newRouter(cfg config.Config, sd *systemd.Manager, log *zap.Logger) *haproxy.Router {
	return haproxy.NewRouter(haproxy.Options{StateDir: cfg.StateDir + "/haproxy", Journal: sd.Journal, Log: log})
}

// routes is a haproxy.Router that also composes state files by itself.
type routes struct {
	*haproxy.Router
	program *haproxy.Program
}

// ComposeState implements agent.Router: it is what a start is prepared with.
func (r routes) ComposeState(ctx context.Context, u plan.Unit) error {
	return r.program.BeforeStart(ctx, u)
}

// localPostgres fits postgres.Watcher to the agent.
type localPostgres struct {
	w       *postgres.Watcher
	changed func()
}

func newLocalPostgres(cfg postgres.Config, log *zap.Logger) *localPostgres {
	l := &localPostgres{changed: func() {}}
	l.w = postgres.NewWatcher(cfg, func(postgres.State) { l.changed() }, log)
	return l
}

// Run implements agent.PostgresWatcher.
func (l *localPostgres) Run(ctx context.Context, changed func()) {
	l.changed = changed
	_ = l.w.Run(ctx) // it ends with ctx and in no other way
}

// Last implements agent.PostgresWatcher.
func (l *localPostgres) Last() agent.PostgresState {
	s := l.w.Last()
	return agent.PostgresState{
		Reachable: s.Reachable, InRecovery: s.InRecovery, Streaming: s.Streaming, RecoveryTimeline: s.RecoveryTimeline, Altered: s.Altered,
		Refused: s.Refused, System: s.System, Timeline: s.Timeline, Data: s.Data, Archiving: s.Archiving, At: s.At,
	}
}

// Fast implements agent.PostgresWatcher.
func (l *localPostgres) Fast(on bool) { l.w.Poll(on) }

// objects fits postgres.Objects to the agent.
type objects struct{ *postgres.Objects }

// Converge implements agent.SQLObjects.
func (o objects) Converge(ctx context.Context, own plan.Member, r plan.SQL, at plan.Epoch, how plan.SQLRun) (plan.SQLResult, error) {
	return o.Objects.Converge(ctx, own.Port, r, at, how)
}

// Logins implements agent.SQLObjects.
func (o objects) Logins(ctx context.Context, own plan.Member, roles []plan.Role) (map[string]string, error) {
	return o.Objects.Logins(ctx, own.Port, roles)
}

// localPooler fits pgbouncer.Watcher to the agent.
type localPooler struct{ *pgbouncer.Watcher }

// Last implements agent.PoolerWatcher.
func (l localPooler) Last() agent.PoolerState { return agent.PoolerState(l.Watcher.Last()) }

// Repairs implements agent.PoolerWatcher.
func (l localPooler) Repairs() []agent.Repair {
	var out []agent.Repair
	for _, r := range l.Watcher.Repairs() {
		out = append(out, agent.Repair(r))
	}
	return out
}

// clockOf asks one etcd after another for the time; they watch one another.
func clockOf(endpoints []string) func(context.Context) (time.Duration, string, error) {
	return func(ctx context.Context) (ahead time.Duration, endpoint string, err error) {
		for _, endpoint = range endpoints {
			if ahead, err = store.ClockAhead(ctx, endpoint); err == nil {
				break
			}
		}
		return ahead, endpoint, err
	}
}

// roomsWith looks at the file systems of a member and of the repository that is on this
// host. One that can't be looked at, because there is no such folder yet, is left out.
func roomsWith(repository func(cluster string) (string, bool)) func(string, plan.Unit) []agent.Room {
	return func(cluster string, u plan.Unit) []agent.Room {
		data := hostpatroni.DataDir(u)
		if data == "" {
			return nil
		}
		folders := []struct{ folder, path string }{{"data", data}, {"wal", data + "/pg_wal"}}
		if path, is := repository(cluster); is {
			folders = append(folders, struct{ folder, path string }{"repository", path})
		}
		var out []agent.Room
		for _, f := range folders {
			if r, err := disk.Of(f.path); err == nil {
				out = append(out, agent.Room{Folder: f.folder, Free: r.Free, Size: r.Size, Inodes: r.Inodes, Most: r.Most})
			}
		}
		return out
	}
}

// dataRoots looks at the folders in which data directories are made where no document says
// otherwise: PostgreSQL's, and one for each version in it, which may be a file system each.
func dataRoots() (out []agent.Room) {
	versions, _ := filepath.Glob("/var/lib/postgresql/[0-9]*") // the pattern is good
	for _, path := range append([]string{"/var/lib/postgresql"}, versions...) {
		if r, err := disk.Of(path); err == nil {
			out = append(out, agent.Room{Folder: path, Free: r.Free, Size: r.Size})
		}
	}
	return out
}

type peers struct{}

// Status implements agent.Peers.
func (peers) Status(ctx context.Context, m plan.Member) (patroni.Status, error) {
	c := hostpatroni.Client{URL: "http://" + net.JoinHostPort(m.Address, strconv.Itoa(m.RESTPort)), Timeout: agent.ProbeTimeout}
	a, err := c.Status(ctx)
	return a.Status, err
}

// Answers implements agent.Peers.
func (peers) Answers(ctx context.Context, m plan.Member) error {
	return postgres.Answers(ctx, net.JoinHostPort(m.Address, strconv.Itoa(m.Port)))
}

type loopback struct{}

// Leads implements agent.LocalPatroni.
func (loopback) Leads(ctx context.Context, own plan.Member) (bool, time.Time, error) {
	host := "127.0.0.1"
	if a, err := netip.ParseAddr(own.Address); err == nil && a.Is6() {
		host = "::1"
	}
	c := hostpatroni.Client{URL: "http://" + net.JoinHostPort(host, strconv.Itoa(own.RESTPort)), Timeout: agent.ProbeTimeout}
	return c.Primary(ctx)
}

type acts struct{}

// Restart implements agent.Acts.
func (acts) Restart(ctx context.Context, cluster string, pending bool) (bool, error) {
	l, err := hostpatroni.ReadLocal(patroniFile(cluster))
	if err != nil {
		return false, err
	}
	return l.Client.Restart(ctx, pending)
}

// Reinit implements agent.Acts.
func (acts) Reinit(ctx context.Context, cluster string) error {
	l, err := hostpatroni.ReadLocal(patroniFile(cluster))
	if err != nil {
		return err
	}
	err = l.Client.Reinitialize(ctx)
	if busy, ok := errors.AsType[*hostpatroni.BusyError](err); ok {
		return fmt.Errorf("%w with %s", agent.ErrBusy, busy.Doing)
	}
	return err
}

func patroniFile(cluster string) string { return "/etc/patroni/" + cluster + ".yml" }

type takeover struct{ inventory *inventory.Host }

// Prepare implements agent.Takeover.
func (t takeover) Prepare(ctx context.Context, _ string, own plan.Member, u plan.Unit) ([]string, error) {
	program := u.Program
	if program == plan.BackupServer {
		program = "pgbackrest"
	}
	if program != service.PoolerExporter { // that one is this program
		if err := t.inventory.Require(program); err != nil {
			return nil, err
		}
	}
	var w inventory.Wants
	switch u.Program {
	case "patroni":
		w.PostgresPorts, w.Ports = []int{own.Port}, []int{own.RESTPort}
	case "haproxy":
		w.HAProxy = true // its binds are checked one by one when its file is validated
	case plan.Pooler:
		w.PgBouncer = true // its port as well
	case "dnsmasq":
		w.Adopt = u.Unit
	case service.PostgresExporter:
		w.PostgresExporter = true
	case service.Prometheus:
		w.Prometheus = true
	}
	return t.inventory.Takeover(ctx, w)
}
