package scratch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/host/pgbackrest"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// describes begins the description of both units; the step's name is the rest.
const describes = "pgctrl scratch restore, step "

// Systemd is what the units need of it.
type Systemd interface {
	StartTransient(ctx context.Context, t systemd.Transient) error
	Status(ctx context.Context, unit string) (systemd.State, error)
	Stop(ctx context.Context, unit string) error
	Forget(ctx context.Context, unit string)
	Feed(ctx context.Context, unit string) error
	Journal(ctx context.Context, unit string, lines int) string
}

// Options are all settings of a Driver.
type Options struct {
	// Node is this host's name, for messages.
	Node    string
	Systemd Systemd
	Log     *zap.Logger
	// State is a folder that only this program writes to: it has each cluster's order, which
	// the second stage is begun by.
	State string
	// Program is this program, which the units run; empty: as it was started.
	Program string
	// User is PostgreSQL's, postgres when empty; Pgbackrest the program.
	User, Pgbackrest string
	// Config is the file of a cluster that pgBackRest reads; nil: plan.BackupConfig.
	Config func(cluster string) string
	// Hidden are folders of a cluster that an offline recovery must not see; nil:
	// pgbackrest.Folders.
	Hidden func(cluster string) ([]string, error)
}

// Driver makes scratch restores on this host, one for each cluster at most.
type Driver struct{ o Options }

// New returns a Driver.
func New(o Options) *Driver {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.User, o.Pgbackrest = cmp.Or(o.User, "postgres"), cmp.Or(o.Pgbackrest, "/usr/bin/pgbackrest")
	if o.Program == "" {
		o.Program, _ = os.Executable() // the start of the unit says what is wrong with it
	}
	if o.Config == nil {
		o.Config = plan.BackupConfig
	}
	if o.Hidden == nil {
		o.Hidden = pgbackrest.Folders
	}
	return &Driver{o: o}
}

// Start begins a scratch restore. One that has ended there is forgotten; one that goes on is
// an error.
func (d *Driver) Start(ctx context.Context, cluster string, o Order) error {
	if err := o.check(cluster); err != nil {
		return err
	}
	was, err := d.Run(ctx, cluster)
	switch {
	case err != nil:
		return err
	case was.Running:
		return &plan.Refusal{Reason: observed.BackupRunning, Message: fmt.Sprintf("a scratch restore goes on, for step %s", was.Step),
			Next: fmt.Sprintf("systemctl status %s %s (on %s)", plan.ScratchFetchUnit(cluster), plan.ScratchUnit(cluster), d.o.Node)}
	}
	if err := d.End(ctx, cluster); err != nil {
		return err
	}
	if err := makeFolder(o, d.o.User); err != nil {
		return err
	}
	if err := d.note(cluster, o); err != nil {
		return err
	}
	return d.o.Systemd.StartTransient(ctx, d.fetchUnit(cluster, o))
}

// Run looks at the cluster's scratch restore, and begins its second stage when the first has
// ended well.
func (d *Driver) Run(ctx context.Context, cluster string) (Run, error) {
	o, noted, err := d.noted(cluster)
	if err != nil {
		return Run{}, err
	}
	for _, unit := range []string{plan.ScratchUnit(cluster), plan.ScratchFetchUnit(cluster)} {
		s, err := d.o.Systemd.Status(ctx, unit)
		if err != nil {
			return Run{}, err
		}
		step, ours := strings.CutPrefix(s.Description, describes)
		if !s.Exists() || !ours || s.ActiveState == "inactive" {
			continue // there is none, or it is about to be forgotten
		}
		r := Run{Step: step}
		same := noted && o.Step == step
		switch {
		case s.ActiveState == "failed":
			r.Err = d.ended(ctx, unit, o, same, s)
		case s.ActiveState == "active" && s.SubState == "exited" && !same:
			r.Err = fmt.Errorf("what was ordered by step %s is not known any more", step)
		case s.ActiveState == "active" && s.SubState == "exited" && unit == plan.ScratchUnit(cluster):
			r.Result, r.Err = o.result()
		case s.ActiveState == "active" && s.SubState == "exited":
			return d.second(ctx, cluster, o)
		default:
			r.Running = true
			if same {
				r.Progress, r.Message = o.at()
			}
		}
		return r, nil
	}
	if noted { // the host may have been booted since it ended
		if result, err := o.result(); err == nil {
			return Run{Step: o.Step, Result: result}, nil
		}
	}
	return Run{}, nil
}

// second begins the second stage.
func (d *Driver) second(ctx context.Context, cluster string, o Order) (Run, error) {
	t, err := d.recoverUnit(cluster, o)
	if err != nil {
		return Run{Step: o.Step, Err: err}, nil
	}
	err = d.o.Systemd.StartTransient(ctx, t)
	// What systemd could not do for this unit it can't do the next time either; one that is
	// away for a moment is asked again.
	if _, is := errors.AsType[*systemd.JobError](err); is {
		return Run{Step: o.Step, Err: &plan.Refusal{Reason: observed.RecoveryFailed, Message: "begin the recovery: " + err.Error(),
			Next: fmt.Sprintf("journalctl -n 60 -u %s (on %s)", t.Unit, d.o.Node)}}, nil
	}
	return Run{Step: o.Step, Running: true, Message: recovering}, err
}

// ended says in words why a stage failed.
func (d *Driver) ended(ctx context.Context, unit string, o Order, same bool, s systemd.State) error {
	if s.Result == "watchdog" {
		return &plan.Refusal{Reason: observed.AgentCutOff, Message: fmt.Sprintf("nobody looked after it for %s, so systemd stopped it", plan.BackupLost)}
	}
	if same {
		if said := (&plan.Refusal{}); o.read(failedFile, said) && said.Message != "" {
			return said
		}
	}
	r := &plan.Refusal{Reason: observed.RecoveryFailed, Message: fmt.Sprintf("%s: systemd says %q", unit, s.Result),
		Next: fmt.Sprintf("journalctl -n 60 -u %s (on %s)", unit, d.o.Node)}
	if words := strings.TrimSpace(d.o.Systemd.Journal(ctx, unit, 3)); words != "" {
		r.Message += "; its journal ends with: " + words
	}
	return r
}

// Keep says that somebody looks after the cluster's scratch restore; without it it is ended
// after plan.BackupLost.
func (d *Driver) Keep(ctx context.Context, cluster string) error {
	return errors.Join(d.o.Systemd.Feed(ctx, plan.ScratchFetchUnit(cluster)), d.o.Systemd.Feed(ctx, plan.ScratchUnit(cluster)))
}

// End stops the cluster's scratch restore if it goes on, and forgets it. Its folder goes too,
// unless it ended well and was to be kept.
func (d *Driver) End(ctx context.Context, cluster string) error {
	var errs []error
	for _, unit := range []string{plan.ScratchFetchUnit(cluster), plan.ScratchUnit(cluster)} {
		errs = append(errs, d.o.Systemd.Stop(ctx, unit))
		d.o.Systemd.Forget(ctx, unit)
	}
	if err := errors.Join(errs...); err != nil {
		return err // what may still run keeps its folder
	}
	o, noted, err := d.noted(cluster)
	if err != nil || !noted {
		return err
	}
	if _, err := o.result(); err != nil || !o.Keep {
		if err := removeFolder(o.Dir, o.Step); err != nil {
			return err
		}
	}
	if err := os.Remove(d.stateFile(cluster)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the scratch restore of %s: %w", cluster, err)
	}
	return nil
}

// Remove deletes the folder of a scratch restore that does not go on. Only what one made is
// removed; a folder that is not there is none.
func (d *Driver) Remove(ctx context.Context, cluster, dir string) error {
	r, err := d.Run(ctx, cluster)
	if err != nil {
		return err
	}
	if o, noted, _ := d.noted(cluster); noted && o.Dir == dir && r.Running {
		return fmt.Errorf("remove %s: its scratch restore goes on, for step %s", dir, r.Step)
	}
	return removeFolder(dir, "")
}

func (d *Driver) stateFile(cluster string) string { return filepath.Join(d.o.State, cluster+".json") }

// note keeps the order for the second stage, which a later run of the agent may begin.
func (d *Driver) note(cluster string, o Order) error {
	if err := os.MkdirAll(d.o.State, 0o700); err != nil {
		return fmt.Errorf("note the scratch restore of %s: %w", cluster, err)
	}
	return writeWhole(d.stateFile(cluster), o)
}

func (d *Driver) noted(cluster string) (o Order, found bool, err error) {
	b, err := os.ReadFile(d.stateFile(cluster))
	if errors.Is(err, fs.ErrNotExist) {
		return Order{}, false, nil
	}
	if err != nil {
		return Order{}, false, fmt.Errorf("read the scratch restore of %s: %w", cluster, err)
	}
	// What is not whole, as after a crash of the host, is none: Start makes it anew.
	if json.Unmarshal(b, &o) != nil || o.check(cluster) != nil {
		return Order{}, false, nil
	}
	return o, true, nil
}
