package agenttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Scratch is a fake of restores beside a cluster, and of the systemd that they run under: what
// was begun goes on while the agent is away, and is ended when it stays away.
type Scratch struct {
	mu     sync.Mutex
	events []string
	orders []agent.ScratchOrder
	order  agent.ScratchOrder // of run
	run    agent.ScratchRun
	kept   time.Time
	dirs   map[string]string // folder -> the step that made it
	fail   error             // of Start
}

func newScratch() *Scratch { return &Scratch{dirs: map[string]string{}} }

// Scratch is the host's restores beside clusters.
func (h *Host) Scratch() *Scratch { return h.scratch }

// FailStart makes starts fail; nil ends it.
func (s *Scratch) FailStart(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// Events returns what was done, in order.
func (s *Scratch) Events() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.events...)
}

// Orders returns what was begun, in order.
func (s *Scratch) Orders() []agent.ScratchOrder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]agent.ScratchOrder(nil), s.orders...)
}

// Dirs returns the folders that are there.
func (s *Scratch) Dirs() (dirs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.dirs {
		dirs = append(dirs, d)
	}
	return dirs
}

// Put puts a folder on the host that no scratch restore made.
func (s *Scratch) Put(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs[dir] = ""
}

// At says how far it is.
func (s *Scratch) At(done int64, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.Progress, s.run.Message = &observed.Progress{Done: done, Total: 100, Unit: "B"}, message
}

// Finish ends it, well when err is nil. What was not said of the result is taken from the order.
func (s *Scratch) Finish(r observed.Recovered, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.Running, s.run.Err, s.run.Result = false, err, nil
	if err != nil {
		return
	}
	r.Label = s.order.Backup
	if s.order.Heartbeat != "" && r.Heartbeat.IsZero() {
		r.Heartbeat = time.Now()
	}
	s.run.Result = &r
}

// Boot is a boot of the host: nothing runs any more. What ended well is still known.
func (s *Scratch) Boot() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run.Running || s.run.Err != nil {
		s.run = agent.ScratchRun{}
	}
}

// Running is the step whose restore goes on; empty: none does.
func (s *Scratch) Running() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchdog()
	if !s.run.Running {
		return ""
	}
	return s.run.Step
}

// watchdog is systemd's. The caller holds mu.
func (s *Scratch) watchdog() {
	if s.run.Running && time.Since(s.kept) > plan.BackupLost {
		s.run.Running, s.run.Err = false, &plan.Refusal{Reason: observed.AgentCutOff, Message: "nobody looked after it"}
		s.events = append(s.events, "watchdog")
	}
}

// Start implements agent.Scratch.
func (s *Scratch) Start(_ context.Context, _ string, o agent.ScratchOrder) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchdog()
	s.events = append(s.events, fmt.Sprintf("start %s %s in %s", o.Step, o.Backup, o.Dir))
	if s.fail != nil {
		return s.fail
	}
	if s.run.Running {
		return &plan.Refusal{Reason: observed.BackupRunning, Message: "one goes on, for step " + s.run.Step}
	}
	s.end()
	if step, there := s.dirs[o.Dir]; there && step != o.Step {
		return &plan.Refusal{Reason: observed.Unmanaged, Message: o.Dir + " is in the way"}
	}
	s.dirs[o.Dir] = o.Step
	s.order, s.orders, s.kept = o, append(s.orders, o), time.Now()
	s.run = agent.ScratchRun{Step: o.Step, Running: true}
	return nil
}

// Run implements agent.Scratch.
func (s *Scratch) Run(context.Context, string) (agent.ScratchRun, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchdog()
	return s.run, nil
}

// Keep implements agent.Scratch.
func (s *Scratch) Keep(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchdog()
	s.kept = time.Now()
	return nil
}

// End implements agent.Scratch.
func (s *Scratch) End(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run.Running {
		s.events = append(s.events, "stop "+s.run.Step)
	}
	s.end()
	return nil
}

// end forgets the run. The caller holds mu.
func (s *Scratch) end() {
	if s.order.Step != "" && (s.run.Result == nil || !s.order.Keep) {
		delete(s.dirs, s.order.Dir)
	}
	s.run, s.order = agent.ScratchRun{}, agent.ScratchOrder{}
}

// Remove implements agent.Scratch.
func (s *Scratch) Remove(_ context.Context, _, dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	step, there := s.dirs[dir]
	switch {
	case there && step == "":
		return &plan.Refusal{Reason: observed.Unmanaged, Message: "no scratch restore made " + dir}
	case s.run.Running && s.order.Dir == dir:
		return errors.New("its scratch restore goes on")
	}
	delete(s.dirs, dir)
	s.events = append(s.events, "remove "+dir)
	return nil
}
