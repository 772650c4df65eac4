package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/host/hookcmd"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// units are systemd's as far as a run of a program needs them: a unit's main process is this
// program's command line, in a goroutine.
type units struct {
	mu      sync.Mutex
	states  map[string]systemd.State
	stops   map[string]func()
	started []systemd.Transient
	// dies is the result with which a unit ends at once; empty: it runs.
	dies string
	wg   sync.WaitGroup
}

func (u *units) StartTransient(ctx context.Context, t systemd.Transient) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, there := u.states[t.Unit]; there {
		return fmt.Errorf("unit %s was already loaded", t.Unit)
	}
	u.started = append(u.started, t)
	if u.dies != "" {
		u.states[t.Unit] = systemd.State{LoadState: "loaded", ActiveState: "failed", SubState: "failed", Result: u.dies}
		return nil
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	u.states[t.Unit] = systemd.State{LoadState: "loaded", ActiveState: "active", SubState: "running"}
	u.stops[t.Unit] = func() { cancel(); <-done }
	u.wg.Go(func() {
		defer close(done)
		Run(life, t.Args[1:], Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}})
		u.mu.Lock()
		u.states[t.Unit] = systemd.State{LoadState: "loaded", ActiveState: "active", SubState: "exited"}
		u.mu.Unlock()
	})
	return nil
}

func (u *units) Status(_ context.Context, unit string) (systemd.State, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s, ok := u.states[unit]
	if !ok {
		s.LoadState = systemd.NotFound
	}
	return s, nil
}

func (u *units) Stop(_ context.Context, unit string) error {
	u.mu.Lock()
	stop := u.stops[unit]
	u.mu.Unlock()
	if stop != nil {
		stop()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.states, unit)
	delete(u.stops, unit)
	return nil
}

// loaded is how many units there are.
func (u *units) loaded() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.states)
}

func (u *units) Forget(context.Context, string) {}

// hookHost is a folder of programs with the driver that runs them.
func hookHost(t *testing.T) (hooks agent.Hooks, u *units, dir, state string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make files that are root's")
	}
	top := t.TempDir()
	dir, state = filepath.Join(top, "hooks"), filepath.Join(top, "state")
	if err := errors.Join(os.Chmod(top, 0o755), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	u = &units{states: map[string]systemd.State{}, stops: map[string]func(){}}
	t.Cleanup(u.wg.Wait)
	return hookRuns{hookcmd.New(hookcmd.Options{Dir: dir, Node: "pg1", State: state, Pgagent: "/usr/bin/pgagent", Systemd: u, Top: top})}, u, dir, state
}

func script(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
}

// TestRealHooksConform holds the driver to what the agent's fake is held to.
func TestRealHooksConform(t *testing.T) {
	hooks, u, dir, state := hookHost(t)
	agenttest.HooksConform(t, hooks, func(name, output string, exit int, takes time.Duration) {
		script(t, dir, name, fmt.Sprintf("echo %s\nsleep %d\nexit %d\n", output, int(takes.Seconds()), exit))
	})
	got := u.started[0]
	if got.Unit != "pgctrl-hook-c.page.service" || !got.Whole || !got.Privileged || got.User != "" || got.MemoryMax != 256<<20 || got.TasksMax != 64 || got.RuntimeMax <= 20*time.Second {
		t.Errorf("the unit: %+v", got)
	}
	if left, _ := filepath.Glob(state + "/*"); len(left) > 0 || u.loaded() > 0 {
		t.Errorf("left behind: %v, %d units", left, u.loaded())
	}
}

// TestHookThatAFormerAgentLeftEnds: nobody waits for it, and two never run at once.
func TestHookThatAFormerAgentLeftEnds(t *testing.T) {
	hooks, u, dir, _ := hookHost(t)
	script(t, dir, "page", "echo $$ >> "+dir+"/../log\nsleep $1\necho over >> "+dir+"/../log\n")
	o := agent.HookOrder{Cluster: "c", Hook: "page", Program: "page", Arguments: []string{"1000"}, EventID: "c/1-0", Kind: "k", Timeout: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := hooks.Run(ctx, o); done <- err }()
	for began := false; !began; {
		b, _ := os.ReadFile(dir + "/../log")
		began = len(b) > 0
		<-time.After(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if u.loaded() != 1 {
		t.Fatal("it ended with the agent")
	}
	o.Arguments = []string{"0"}
	if r, err := hooks.Run(t.Context(), o); err != nil || r.Exit != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	b, _ := os.ReadFile(dir + "/../log")
	if n := strings.Count(string(b), "over"); n != 1 {
		t.Errorf("%d ended by themselves, want the later one:\n%s", n, b)
	}
}

// TestHookThatSystemdEnds: nothing is known of it but what systemd says.
func TestHookThatSystemdEnds(t *testing.T) {
	hooks, u, dir, _ := hookHost(t)
	script(t, dir, "page", "")
	o := agent.HookOrder{Cluster: "c", Hook: "page", Program: "page", EventID: "c/1-0", Kind: "k", Timeout: time.Hour}
	u.dies = "oom-kill"
	_, err := hooks.Run(t.Context(), o)
	if no, is := errors.AsType[*plan.Refusal](err); !is || no.Reason != observed.HookFailed || !strings.Contains(no.Message, "more than 256 MiB") {
		t.Errorf("got %v", err)
	}
	u.dies = "timeout"
	if r, err := hooks.Run(t.Context(), o); err != nil || !r.TimedOut {
		t.Errorf("%+v, %v", r, err)
	}
}
