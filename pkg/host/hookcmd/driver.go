package hookcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// What a program may use of the host. A database runs beside it.
const (
	memoryMost = 256 << 20
	tasksMost  = 64
	// overdue is how long after its time-out systemd ends a unit whose main process did not.
	overdue = KillAfter + 3*time.Second
	// lookEvery is how often it is looked whether a unit has ended.
	lookEvery = 100 * time.Millisecond
)

// Systemd is what a Driver needs of systemd.Manager.
type Systemd interface {
	StartTransient(ctx context.Context, t systemd.Transient) error
	Status(ctx context.Context, unit string) (systemd.State, error)
	Stop(ctx context.Context, unit string) error
	Forget(ctx context.Context, unit string)
}

// Options are all settings of a Driver.
type Options struct {
	// Dir is the folder of the programs; Node is this node's name.
	Dir, Node string
	// State is a folder for what the agent and a run tell one another.
	State string
	// Pgagent is the path of this program, which the unit's main process is.
	Pgagent string
	Systemd Systemd
	// Top is the folder from which on all is looked at; "/" when empty. Only tests have
	// another one.
	Top string
}

// Driver runs programs in units of their own.
type Driver struct{ o Options }

// New returns a Driver. It touches nothing.
func New(o Options) *Driver {
	if o.Top == "" {
		o.Top = "/"
	}
	return &Driver{o}
}

// UnitName is the unit of a hook's program. A cluster's name has no dot, so no two hooks share one.
func UnitName(cluster, hook string) string { return "pgctrl-hook-" + cluster + "." + hook + ".service" }

// told is what the agent writes for a run, and outcome what comes back.
type (
	told struct {
		Order          Order
		Top, Dir, Node string
		Outcome        string // the file for it
	}
	outcome struct {
		Result Result
		// Refusal and Error are why it was not run, or how that failed.
		Refusal *plan.Refusal
		Error   string
	}
)

// Run runs a program and returns when it has ended. One that may not be run is a *plan.Refusal.
// A former run of the same hook that still goes on is ended first: whoever asked for it is gone.
// With ctx nothing ends but the waiting; the unit has its own time.
func (d *Driver) Run(ctx context.Context, o Order) (Result, error) {
	p, err := Open(d.o.Top, d.o.Dir, o.Program) // once more in the unit; here for a quick answer
	if err != nil {
		return Result{}, err
	}
	p.Close()
	unit := UnitName(o.Cluster, o.Hook)
	what := "run the program of hook " + o.Hook
	order, result := filepath.Join(d.o.State, unit+".order"), filepath.Join(d.o.State, unit+".outcome")
	clear := func(ctx context.Context) error {
		err := d.o.Systemd.Stop(ctx, unit)
		d.o.Systemd.Forget(ctx, unit)
		for _, f := range []string{order, result} {
			if rerr := os.Remove(f); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
		return err
	}
	if err := clear(ctx); err != nil || ctx.Err() != nil {
		return Result{}, fmt.Errorf("%s: %w", what, errors.Join(err, context.Cause(ctx)))
	}
	b, err := json.Marshal(told{Order: o, Top: d.o.Top, Dir: d.o.Dir, Node: d.o.Node, Outcome: result})
	if err == nil {
		err = os.MkdirAll(d.o.State, 0o700)
	}
	if err == nil {
		err = renameio.WriteFile(order, b, 0o600)
	}
	if err == nil {
		err = d.o.Systemd.StartTransient(ctx, d.transient(unit, order, o))
	}
	if err != nil {
		return Result{}, errors.Join(fmt.Errorf("%s: %w", what, err), clear(context.WithoutCancel(ctx)))
	}
	began := time.Now()
	st, err := d.ended(ctx, unit)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", what, err)
	}
	r, err := d.read(result, unit, st, time.Since(began))
	if cerr := clear(ctx); err == nil && cerr != nil {
		err = fmt.Errorf("%s: clear up after it: %w", what, cerr)
	}
	return r, err
}

func (d *Driver) transient(unit, order string, o Order) systemd.Transient {
	return systemd.Transient{
		Unit: unit, Description: "pgctrl: program " + o.Program + " of hook " + o.Hook + " for event " + o.EventID,
		Args:   []string{d.o.Pgagent, "hook", "--order", order},
		Weight: 100, StopWithin: KillAfter + drainFor, RuntimeMax: o.Timeout + overdue,
		Whole: true, Privileged: true, MemoryMax: memoryMost, TasksMax: tasksMost,
	}
}

// ended waits until the unit's main process has ended.
func (d *Driver) ended(ctx context.Context, unit string) (systemd.State, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		st, err := d.o.Systemd.Status(ctx, unit)
		if err == nil && (!st.Exists() || st.ActiveState == "failed" || st.ActiveState == "inactive" || st.SubState == "exited") {
			return st, nil
		}
		select {
		case <-ctx.Done():
			return st, context.Cause(ctx)
		case <-tick.C: // systemd that does not answer now does when it has executed itself anew
		}
	}
}

// read reads what the main process left. One that left nothing was ended by systemd or the kernel.
func (d *Driver) read(path, unit string, st systemd.State, took time.Duration) (Result, error) {
	var out outcome
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && st.Result == "timeout":
		return Result{Exit: -1, Signal: "SIGKILL", TimedOut: true, Took: took}, nil
	case errors.Is(err, fs.ErrNotExist):
		why := "it ended with " + st.Result
		if st.Result == "oom-kill" {
			why = fmt.Sprintf("it used more than %d MiB of memory, which is all that a program of a hook gets", memoryMost>>20)
		}
		return Result{}, &plan.Refusal{Reason: observed.HookFailed, Message: "nothing is known of how the program ended: " + why, Next: "journalctl -n 60 -u " + unit + " (on " + d.o.Node + ")"}
	case err == nil:
		err = json.Unmarshal(b, &out)
	}
	switch {
	case err != nil:
		return Result{}, fmt.Errorf("read how %s ended: %w", unit, err)
	case out.Refusal != nil:
		return Result{}, out.Refusal
	case out.Error != "":
		return out.Result, errors.New(out.Error)
	}
	return out.Result, nil
}

// Supervise is the main process of a program's unit: it runs the program that the order file says and leaves
// how it ended. log is the unit's journal.
func Supervise(ctx context.Context, order string, log io.Writer) error {
	b, err := os.ReadFile(order)
	if err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	var t told
	if err := json.Unmarshal(b, &t); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	var out outcome
	p, err := Open(t.Top, t.Dir, t.Order.Program)
	if err == nil {
		defer p.Close()
		out.Result, err = p.Run(ctx, t.Node, t.Order, log)
	}
	if !errors.As(err, &out.Refusal) && err != nil {
		out.Error = err.Error()
	}
	if b, err = json.Marshal(out); err == nil {
		err = renameio.WriteFile(t.Outcome, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write how the program ended: %w", err)
	}
	return nil
}
