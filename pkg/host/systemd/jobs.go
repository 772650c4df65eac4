package systemd

import (
	"context"
	"errors"
	"fmt"

	"github.com/coreos/go-systemd/v22/dbus"
)

// journalLines is how much of a journal goes into an error: enough for a Python
// traceback's last lines, little enough to read.
const journalLines = 20

// jobCall is the shape that all of the library's calls that queue a job have.
type jobCall func(c *dbus.Conn, ctx context.Context, unit, mode string, ch chan<- string) (int, error)

// Start starts a unit and waits until systemd says that it is up. Starting a
// running unit is no error. A unit that had failed too often is given a new chance.
func (m *Manager) Start(ctx context.Context, unit string) error {
	m.resetFailed(ctx, unit)
	return m.job(ctx, "start", unit, (*dbus.Conn).StartUnitContext)
}

// Stop stops a unit and waits until it is down. Stopping a stopped unit, or one
// that doesn't exist, is no error.
func (m *Manager) Stop(ctx context.Context, unit string) error {
	return absentIsFine(m.job(ctx, "stop", unit, (*dbus.Conn).StopUnitContext))
}

func absentIsFine(err error) error {
	if errors.Is(err, ErrNoUnit) {
		return nil
	}
	return err
}

// ReloadUnit runs the unit's ExecReload.
func (m *Manager) ReloadUnit(ctx context.Context, unit string) error {
	return m.job(ctx, "reload", unit, (*dbus.Conn).ReloadUnitContext)
}

// Restart stops and starts a unit.
func (m *Manager) Restart(ctx context.Context, unit string) error {
	m.resetFailed(ctx, unit)
	return m.job(ctx, "restart", unit, (*dbus.Conn).RestartUnitContext)
}

// resetFailed clears systemd's memory of failed starts, which would otherwise
// refuse the next one. It fails for a unit that has none, and that is fine.
func (m *Manager) resetFailed(ctx context.Context, unit string) {
	_ = m.call(ctx, "reset "+unit, func(ctx context.Context, c *dbus.Conn) error {
		return c.ResetFailedUnitContext(ctx, unit)
	})
}

func (m *Manager) job(ctx context.Context, op, unit string, start jobCall) error {
	var result string
	err := m.call(ctx, op+" "+unit, func(ctx context.Context, c *dbus.Conn) error {
		// Room for one: the library sends while it holds a lock.
		done := make(chan string, 1)
		// "replace": a conflicting job that is queued gives way, as with systemctl.
		if _, err := start(c, ctx, unit, "replace", done); err != nil {
			return err
		}
		select {
		case result = <-done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for the job: %w", ctx.Err())
		}
	})
	if err != nil {
		return err
	}
	if result != "done" {
		return &JobError{Op: op, Unit: unit, Result: result, Tail: m.Journal(ctx, unit, journalLines)}
	}
	return nil
}

// Enable makes a unit start at boot.
func (m *Manager) Enable(ctx context.Context, unit string) error {
	return m.unitFiles(ctx, "enable "+unit, func(ctx context.Context, c *dbus.Conn) (int, error) {
		_, changes, err := c.EnableUnitFilesContext(ctx, []string{unit}, false, false)
		return len(changes), err
	})
}

// Disable makes a unit not start at boot. It doesn't stop it. A unit that doesn't
// exist is disabled already.
func (m *Manager) Disable(ctx context.Context, unit string) error {
	return absentIsFine(m.unitFiles(ctx, "disable "+unit, func(ctx context.Context, c *dbus.Conn) (int, error) {
		lasting, err := c.DisableUnitFilesContext(ctx, []string{unit}, false)
		if err != nil {
			return 0, err
		}
		runtime, err := c.DisableUnitFilesContext(ctx, []string{unit}, true)
		return len(lasting) + len(runtime), err
	}))
}

// Mask makes a unit impossible to start.
func (m *Manager) Mask(ctx context.Context, unit string) error {
	return m.unitFiles(ctx, "mask "+unit, func(ctx context.Context, c *dbus.Conn) (int, error) {
		changes, err := c.MaskUnitFilesContext(ctx, []string{unit}, false, false)
		return len(changes), err
	})
}

// Unmask undoes Mask, also one that would only have lasted until the next boot.
func (m *Manager) Unmask(ctx context.Context, unit string) error {
	return m.unitFiles(ctx, "unmask "+unit, func(ctx context.Context, c *dbus.Conn) (int, error) {
		lasting, err := c.UnmaskUnitFilesContext(ctx, []string{unit}, false)
		if err != nil {
			return 0, err
		}
		runtime, err := c.UnmaskUnitFilesContext(ctx, []string{unit}, true)
		return len(lasting) + len(runtime), err
	})
}

// unitFiles makes a change to links and has systemd read them again: without
// that it goes on with what it had read.
func (m *Manager) unitFiles(ctx context.Context, what string, change func(context.Context, *dbus.Conn) (int, error)) error {
	return m.call(ctx, what, func(ctx context.Context, c *dbus.Conn) error {
		n, err := change(ctx, c)
		if err != nil || n == 0 {
			return err
		}
		return c.ReloadContext(ctx)
	})
}

// DaemonReload makes systemd read all unit files again.
func (m *Manager) DaemonReload(ctx context.Context) error {
	return m.call(ctx, "reload systemd", func(ctx context.Context, c *dbus.Conn) error {
		return c.ReloadContext(ctx)
	})
}
