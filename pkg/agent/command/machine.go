package command

import (
	"context"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/host/haproxy"
	"github.com/pgctrl/pgctrl/pkg/host/inventory"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// machine is what the commands other than run need of the host; a test has its own.
type machine interface {
	// Program is this program's path.
	Program() (string, error)
	// Write and Install make a file or unit file so and say whether it was different.
	Write(path string, content []byte) (changed bool, err error)
	Install(ctx context.Context, unit string, content []byte) (changed bool, err error)
	// Start enables and starts a unit; again when it runs and must read new settings.
	Start(ctx context.Context, unit string, again bool) error
	// Check looks at the machine, CheckEtcd at etcd.
	Check(ctx context.Context) []inventory.CheckResult
	CheckEtcd(ctx context.Context, cfg config.Config) inventory.CheckResult
	// Patroni asks this node's own Patroni what its PostgreSQL does.
	Patroni(own plan.Member) (patroni.Status, error)
	// Router writes state files without an agent.
	Router(cfg config.Config, log *zap.Logger) (r agent.Router, done func())
	leaver
}

// leaver is what giving the host back needs.
type leaver interface {
	// Made lists the units that the agent has made here and not removed.
	Made(cfg config.Config) ([]string, error)
	// Etcd connects to the store; ID is the machine's.
	Etcd(ctx context.Context, cfg config.Config) (*store.Client, error)
	ID() (string, error)
	// Undo stops the agent, removes the units and gives back what was taken over.
	Undo(ctx context.Context, cfg config.Config, units []string, say func(format string, args ...any)) error
	// Clear removes the agent's own unit, settings and state.
	Clear(ctx context.Context, cfg config.Config) error
}

// thisMachine is the one this program runs on.
type thisMachine struct{}

func (thisMachine) Program() (string, error) { return os.Executable() }

func (thisMachine) Write(path string, content []byte) (bool, error) {
	d, err := files.Same(path, content, 0o644, "")
	if err != nil || !d.Any() {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	return true, files.AtomicWrite(path, content, 0o644, "")
}

func (thisMachine) Install(ctx context.Context, unit string, content []byte) (bool, error) {
	m := systemd.New(systemd.Options{})
	defer m.Close()
	return m.InstallTemplate(ctx, unit, content)
}

func (thisMachine) Start(ctx context.Context, unit string, again bool) error {
	m := systemd.New(systemd.Options{})
	defer m.Close()
	if err := m.Enable(ctx, unit); err != nil {
		return err
	}
	if again {
		return m.Restart(ctx, unit)
	}
	return m.Start(ctx, unit)
}

func (thisMachine) Check(ctx context.Context) []inventory.CheckResult {
	m := systemd.New(systemd.Options{})
	defer m.Close()
	return inventory.New(m).Check(ctx)
}

func (thisMachine) CheckEtcd(ctx context.Context, cfg config.Config) inventory.CheckResult {
	return checkEtcd(ctx, cfg)
}

func (thisMachine) Patroni(own plan.Member) (patroni.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	return peers{}.Status(ctx, own)
}

func (thisMachine) Router(cfg config.Config, log *zap.Logger) (agent.Router, func()) {
	sd := systemd.New(systemd.Options{})
	r := newRouter(cfg, sd, log)
	return routes{r, haproxy.NewProgram(r)}, func() { r.Close(); sd.Close() }
}
