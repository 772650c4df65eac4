// Package inplace changes the data directory of a member whose Patroni stands still: for a
// restore in place. Each act looks at what is there and does what is missing, so that one
// which was interrupted is done again, and nothing but Discard deletes anything.
package inplace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Systemd is what this needs of it.
type Systemd interface {
	Status(ctx context.Context, unit string) (systemd.State, error)
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
	Journal(ctx context.Context, unit string, lines int) string
}

// Driver does it on this host.
type Driver struct {
	Systemd Systemd
}

func unit(cluster string) string { return "patroni@" + cluster + ".service" }

// CanSwap says whether the data directory can be renamed at all, before anything is stopped.
func (d *Driver) CanSwap(r plan.Restore) error {
	own, err := os.Stat(r.Data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	parent, err := os.Stat(filepath.Dir(r.Data))
	if err != nil {
		return err
	}
	if device(own) != device(parent) {
		return &plan.Refusal{Reason: observed.Unsupported, Next: "pgctrl restore --help (into a new cluster)",
			Message: r.Data + " is a mount point, and data are restored in place by renaming their directory"}
	}
	if link, err := os.Lstat(r.Data); err != nil || link.Mode()&fs.ModeSymlink != 0 {
		return &plan.Refusal{Reason: observed.Unsupported, Next: "pgctrl restore --help (into a new cluster)",
			Message: r.Data + " is a symbolic link, and data are restored in place by renaming their directory"}
	}
	return nil
}

func device(i fs.FileInfo) uint64 { return i.Sys().(*syscall.Stat_t).Dev }

// Left are folders in which restores of these data were prepared, this one's and those that
// nobody finished.
func (d *Driver) Left(r plan.Restore) []string {
	found, _ := filepath.Glob(r.Data + ".prepared-restore-*") // a path of a plan has no character that means anything
	return found
}

// Aside stops Patroni, and PostgreSQL with it, and keeps the data under another name, which it
// returns; empty: there were none.
func (d *Driver) Aside(ctx context.Context, cluster string, r plan.Restore) (where string, err error) {
	if err := d.stop(ctx, cluster, r.Data); err != nil {
		return "", err
	}
	if err := cleared(r); err != nil {
		return "", err
	}
	if !exists(r.Data) {
		if isData(r.Before()) {
			return r.Before(), nil // done before
		}
		return "", nil
	}
	// A host that was booted meanwhile may have begun to copy from whoever led then.
	where = free(r.Before())
	return where, postgres.Move(r.Data, where)
}

// Kept reports whether former data are aside.
func (d *Driver) Kept(r plan.Restore) bool { return isData(r.Before()) }

// Swap is Aside, and puts what was prepared in the place of the data.
func (d *Driver) Swap(ctx context.Context, cluster string, r plan.Restore) error {
	prepared := Data(r)
	if !isData(prepared) && !(isData(r.Data) && isData(r.Before())) {
		return &plan.Refusal{Reason: observed.ApplyFailed, Message: "what was prepared is not there any more: " + prepared}
	}
	if !isData(prepared) {
		return d.stop(ctx, cluster, r.Data) // it has been swapped
	}
	if _, err := d.Aside(ctx, cluster, r); err != nil {
		return err
	}
	return postgres.Move(prepared, r.Data)
}

// Back stops what runs, and brings the former data to their place where they are aside.
func (d *Driver) Back(ctx context.Context, cluster string, r plan.Restore) error {
	if !isData(r.Before()) {
		return nil // nothing was changed here, or it is put back
	}
	if err := d.stop(ctx, cluster, r.Data); err != nil {
		return err
	}
	if exists(r.Data) {
		if err := postgres.Move(r.Data, free(r.Undone())); err != nil {
			return err
		}
	}
	return postgres.Move(r.Before(), r.Data)
}

// cleared moves away what is in the place of the data and is none: a copy that was cut short, a
// folder that somebody made.
func cleared(r plan.Restore) error {
	if !exists(r.Data) || isData(r.Data) {
		return nil
	}
	return postgres.Move(r.Data, free(r.Undone()))
}

// Start starts Patroni, at every boot of the host too.
func (d *Driver) Start(ctx context.Context, cluster string) error {
	return errors.Join(d.Systemd.Enable(ctx, unit(cluster)), d.Systemd.Start(ctx, unit(cluster)))
}

// Runs is an error with Patroni's last words when it does not run.
func (d *Driver) Runs(ctx context.Context, cluster string) error {
	s, err := d.Systemd.Status(ctx, unit(cluster))
	if err != nil || s.Active() {
		return err
	}
	return fmt.Errorf("%s has ended: %s", unit(cluster), d.Systemd.Journal(ctx, unit(cluster), 5))
}

// Discard deletes what a restore made and kept on this host, but not the only data there are.
func (d *Driver) Discard(r plan.Restore) (removed []string, err error) {
	if isData(r.Before()) && !isData(r.Data) {
		return nil, &plan.Refusal{Reason: observed.Unmanaged, Next: "pgctrl status", Message: fmt.Sprintf(
			"%s has no data, so those in %s are the only ones here", r.Data, r.Before())}
	}
	for _, of := range r.Kept() {
		found, _ := filepath.Glob(of + "*") // neither name has a character that means anything
		for _, dir := range found {
			if dir != of && !numbered(of, dir) {
				continue
			}
			for _, data := range []string{dir, filepath.Join(dir, "data")} {
				if err := postgres.StandsStill(data); err != nil {
					return removed, err
				}
			}
			if err := os.RemoveAll(dir); err != nil {
				return removed, err
			}
			removed = append(removed, dir)
		}
	}
	return removed, nil
}

// Data is the data directory within what was prepared.
func Data(r plan.Restore) string { return filepath.Join(r.Prepared(), "data") }

// stop stops Patroni, now and at the next boot, and waits until its PostgreSQL is down: that may
// take longer than systemd waits for Patroni. A copy that Patroni had begun goes on without it,
// and would write into whatever is in the place of the data next.
func (d *Driver) stop(ctx context.Context, cluster, data string) error {
	if err := d.Systemd.Stop(ctx, unit(cluster)); err != nil {
		return err
	}
	// Only now: the agent enables again what runs and is not.
	if err := d.Systemd.Disable(ctx, unit(cluster)); err != nil {
		return err
	}
	for deadline := time.Now().Add(stopWithin); ; {
		err := errors.Join(postgres.StandsStill(data), endCopies(data))
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(stopLook):
		}
	}
}

const (
	// stopWithin is how long PostgreSQL may take to stop: a checkpoint of all its memory, and
	// WAL that goes to a slow archive.
	stopWithin = 5 * time.Minute
	stopLook   = 250 * time.Millisecond
)

// copiers are the programs by which Patroni fills a data directory.
var copiers = []string{"pg_basebackup", "pg_rewind", "pgbackrest"}

// endCopies kills what fills a data directory, and is an error until it is gone.
func endCopies(data string) error {
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, p := range procs {
		line, err := os.ReadFile(p)
		if err != nil {
			continue // it is gone
		}
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		names := func(arg string) bool { return arg == data || strings.HasSuffix(arg, "="+data) }
		if !slices.Contains(copiers, filepath.Base(args[0])) || !slices.ContainsFunc(args[1:], names) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err != nil {
			continue
		}
		_ = syscall.Kill(pid, syscall.SIGKILL) // it is looked at again
		return fmt.Errorf("%s (pid %d) still writes to %s", args[0], pid, data)
	}
	return nil
}

// isData reports a PostgreSQL data directory.
func isData(dir string) bool {
	i, err := os.Lstat(filepath.Join(dir, "PG_VERSION"))
	return err == nil && i.Mode().IsRegular()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// free is a name that nothing has: itself, or with a number behind it.
func free(name string) string {
	for i, is := 2, name; ; i++ {
		if _, err := os.Lstat(is); errors.Is(err, fs.ErrNotExist) {
			return is
		}
		is = fmt.Sprintf("%s-%d", name, i)
	}
}

// numbered reports whether a name is one that free made of another.
func numbered(of, name string) bool {
	var i int
	n, err := fmt.Sscanf(name[len(of):], "-%d", &i)
	return err == nil && n == 1 && name == fmt.Sprintf("%s-%d", of, i)
}
