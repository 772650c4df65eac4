package pgbackrest

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// describes begins the description of a backup's unit; the step's name is the rest.
const describes = "pgctrl backup, step "

// The share of the host that a backup gets where others want it too: a tenth or less. The
// lowest class of disk access would be nothing at all on a busy disk, and a backup that
// never ends keeps WAL.
const (
	nice     = 10
	ioLowest = 7 // of the 8 in the class that everything else is in
	weight   = 10
)

// Run is a backup's unit as it was found.
type Run struct {
	// Step is the step that it is for; empty: there is none.
	Step string
	// Running: it goes on. Otherwise it has ended, with Err.
	Running  bool
	Err      error
	Progress *observed.Progress
}

// Order is one backup.
type Order struct {
	// Step is the step that it is for.
	Step string
	Type plan.BackupType
	// Keep: no older backup is expired with it.
	Keep bool
	// From is the member whose files are copied; Address is where it is, empty when it is the
	// one on this host.
	From, Address string
}

// Start begins a backup in a unit of its own. One that has ended there is forgotten, one
// that goes on is an error.
func (d *Driver) Start(ctx context.Context, cluster string, o Order) error {
	step, err := checkStep(o.Step)
	if err != nil {
		return err
	}
	unit := plan.BackupUnit(cluster)
	was, err := d.Run(ctx, cluster)
	switch {
	case err != nil:
		return err
	case was.Running:
		r := failed("start a backup", cluster, d.o.Node, codeLockAcquire, "")
		r.Message, r.Next = fmt.Sprintf("%s already runs, for step %s", unit, was.Step), fmt.Sprintf("systemctl status %s (on %s)", unit, d.o.Node)
		return r
	case was.Step != "":
		if err := d.End(ctx, cluster); err != nil {
			return err
		}
	}
	args := []string{
		d.o.Binary, "--config=" + plan.BackupConfig(cluster), "--stanza=" + cluster,
		"--type=" + string(o.Type), "--annotation=" + stepAnnotation + "=" + step, "--annotation=" + fromAnnotation + "=" + o.From,
		"--log-level-console=info", "--log-level-file=off", "--log-level-stderr=off",
	}
	if o.Keep {
		args = append(args, "--no-expire-auto")
	}
	if o.Address != "" {
		c, err := readConfig(cluster)
		if err != nil {
			return err
		}
		at, err := servers(cluster)
		if err != nil {
			return fmt.Errorf("copy a backup from %s: %w", o.From, err)
		}
		args = append(args, at.options(c, cluster, o.Address)...)
	}
	return d.o.Systemd.StartTransient(ctx, systemd.Transient{
		Unit: unit, Description: describes + step, User: d.o.User, Args: append(args, "backup"),
		// At the end of a boot it goes before PostgreSQL does.
		After: []string{"patroni@" + cluster + ".service"},
		Nice:  nice, IOPriority: ioLowest, Weight: weight,
		Watchdog: plan.BackupLost, StopWithin: plan.BackupStop,
	})
}

// Run looks at the cluster's backup.
func (d *Driver) Run(ctx context.Context, cluster string) (Run, error) {
	unit := plan.BackupUnit(cluster)
	s, err := d.o.Systemd.Status(ctx, unit)
	if err != nil {
		return Run{}, err
	}
	step, ours := strings.CutPrefix(s.Description, describes)
	if !s.Exists() || !ours {
		return Run{}, nil
	}
	r := Run{Step: step}
	switch {
	case s.ActiveState == "active" && s.SubState == "exited":
	case s.ActiveState == "failed":
		r.Err = d.ended(ctx, cluster, s)
	case s.ActiveState == "inactive":
		r.Step = "" // stopped, and about to be forgotten
	default:
		r.Running, r.Progress = true, d.progress(cluster)
	}
	return r, nil
}

// ended says in words why a backup failed.
func (d *Driver) ended(ctx context.Context, cluster string, s systemd.State) error {
	unit := plan.BackupUnit(cluster)
	const what = "take a backup"
	switch s.Result {
	case "watchdog":
		return &plan.Refusal{Reason: observed.AgentCutOff, Next: "pgctrl status " + cluster, Message: fmt.Sprintf(
			"nobody looked after it for %s, so systemd stopped it; the next backup takes up what was copied", plan.BackupLost)}
	case "exit-code":
		return failed(what, cluster, d.o.Node, s.ExitStatus, d.o.Systemd.Journal(ctx, unit, 30))
	}
	r := failed(what, cluster, d.o.Node, 0, "")
	r.Message = fmt.Sprintf("%s: systemd says %q", what, s.Result)
	return r
}

// progress is what pgBackRest wrote into its lock; newer versions have one a repository.
func (d *Driver) progress(cluster string) *observed.Progress {
	c, err := readConfig(cluster)
	if err != nil {
		return nil
	}
	files, _ := filepath.Glob(filepath.Join(c.locks(cluster), cluster+"-backup*.lock")) // the pattern is good
	for _, f := range files {
		if b, ok := readForeign(f); ok {
			if p := parseLock(b); p != nil {
				return p
			}
		}
	}
	return nil
}

// Keep says that somebody looks after the cluster's backup; without it the backup is ended
// after plan.BackupLost.
func (d *Driver) Keep(ctx context.Context, cluster string) error {
	return d.o.Systemd.Feed(ctx, plan.BackupUnit(cluster))
}

// End stops the cluster's backup if it goes on, and forgets how it ended.
func (d *Driver) End(ctx context.Context, cluster string) error {
	unit := plan.BackupUnit(cluster)
	err := d.o.Systemd.Stop(ctx, unit)
	d.o.Systemd.Forget(ctx, unit)
	return err
}
