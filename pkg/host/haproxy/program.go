package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Program says how HAProxy's configuration is validated, reloaded and proved. It
// is used by the unit driver, one for all units.
type Program struct {
	r *Router
}

var _ unit.Program = (*Program)(nil)

// NewProgram makes the program that shares a router's knowledge of its units.
func NewProgram(r *Router) *Program { return &Program{r: r} }

// Restart reports that the agent may start HAProxy again: it holds no data, and a
// stopped one is drift (R9).
func (p *Program) Restart() bool { return true }

// BeforeStart writes the state file that the first worker starts from.
func (p *Program) BeforeStart(ctx context.Context, u plan.Unit) error {
	s := p.r.unit(u.Unit)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.edge = true
	s.targets = u.Targets
	return p.r.composeState(ctx, s, u)
}

// Reload composes the state file and tells the master process to start a new
// worker. The old one keeps its sessions.
func (p *Program) Reload(ctx context.Context, u plan.Unit) error {
	s := p.r.unit(u.Unit)
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := showProc(ctx, p.r.master(u.Unit))
	if err != nil {
		return notAnswering(u.Unit, err)
	}
	s.edge = true
	s.targets = u.Targets
	if err := p.r.composeState(ctx, s, u); err != nil {
		return err
	}
	s.before = &before
	if err := syscall.Kill(before.Master, syscall.SIGUSR2); err != nil {
		return fmt.Errorf("reload %s: signal master %d: %w", u.Unit, before.Master, err)
	}
	return nil
}

// Prove waits until the reload shows: one more of them, none failed since, and a
// new worker that answers. Without a reload before it (after a start) the worker's
// answer is the proof. The targets are asserted again before it returns, because
// they may have changed while the new worker was reading its state file.
func (p *Program) Prove(ctx context.Context, u plan.Unit) error {
	s := p.r.unit(u.Unit)
	s.mu.Lock()
	before := s.before
	s.before = nil
	latest := s.targets
	s.mu.Unlock()

	if err := p.proveLoaded(ctx, u.Unit, before); err != nil {
		return err
	}
	if len(latest) == 0 {
		return nil
	}
	u.Targets = latest
	_, err := p.r.Assert(ctx, u, true)
	return err
}

func (p *Program) proveLoaded(ctx context.Context, name string, before *proc) error {
	ctx, cancel := context.WithTimeout(ctx, p.r.o.ProveWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error // why it is not proven yet
	for {
		// The master is not there for a moment while it executes itself again.
		now, err := showProc(ctx, p.r.master(name))
		switch {
		case err != nil:
			last = err
		case now.Failed > 0 && (before == nil || now.Reloads > before.Reloads):
			return p.failedReload(ctx, name, now)
		case before != nil && now.Reloads <= before.Reloads && now.Master == before.Master:
			last = fmt.Errorf("show proc still counts %d reloads", now.Reloads)
		case now.Worker == 0 || before != nil && now.Worker == before.Worker:
			last = errors.New("show proc has no new worker")
		default:
			if last = p.workerAnswers(ctx, name, now.Worker); last == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return notAnswering(name, last)
		case <-tick.C:
		}
	}
}

// workerAnswers asks the worker through its master, which can't be mistaken for
// another worker, and at the runtime socket, which is what Assert will use.
func (p *Program) workerAnswers(ctx context.Context, name string, pid int) error {
	text, err := askMaster(ctx, p.r.master(name), fmt.Sprintf("@!%d show info", pid))
	if err != nil {
		return err
	}
	want := fmt.Sprintf("Pid: %d", pid)
	if !strings.Contains(text, want) {
		return fmt.Errorf("worker %d does not answer", pid)
	}
	if text, err = ask(ctx, p.r.admin(name), "show info"); err != nil {
		return err
	}
	if !strings.Contains(text, want) {
		return fmt.Errorf("the runtime socket is not worker %d's yet", pid)
	}
	return nil
}

func (p *Program) failedReload(ctx context.Context, name string, now proc) error {
	msg := fmt.Sprintf("haproxy did not load it and keeps worker %d (show proc: %d failed)", now.Worker, now.Failed)
	if p.r.o.Journal != nil {
		for line := range strings.Lines(p.r.o.Journal(ctx, name, 30)) {
			if strings.Contains(line, "[ALERT]") {
				msg += "; " + logPrefix.ReplaceAllString(strings.TrimSpace(line), "")
			}
		}
	}
	return &plan.Refusal{Reason: observed.Rejected, Message: msg, Next: "journalctl -n 30 -u " + name}
}

func notAnswering(name string, err error) error {
	return &plan.Refusal{Reason: observed.NotAnswering, Message: fmt.Sprintf("%s does not answer: %v", name, err),
		Next: "systemctl status " + name}
}

// Retire removes the state file, which the next HAProxy of that name must not begin
// with, and forgets the unit.
func (p *Program) Retire(u plan.Unit) error {
	p.r.mu.Lock()
	delete(p.r.units, u.Unit)
	p.r.mu.Unlock()
	if err := os.Remove(p.r.StateFile(u.Unit)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("retire %s: %w", u.Unit, err)
	}
	return nil
}
