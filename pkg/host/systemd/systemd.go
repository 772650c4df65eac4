// Package systemd speaks to systemd over D-Bus: start, stop, enable, mask, state,
// and template units. Every call has a deadline, and a job is waited for until
// systemd says how it ended; "queued" is not an answer.
//
// It needs no D-Bus daemon: root speaks to systemd's private socket when the
// system bus is not there.
package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/pgctrl/pgctrl/pkg/host/files"
)

// DefaultTimeout bounds one call, a waited-for job included. Debian's Patroni
// unit gives up after 30 s by itself.
const DefaultTimeout = 60 * time.Second

// DefaultUnitDir is where administrators' units live, and ours: it wins over the
// distribution's.
const DefaultUnitDir = "/etc/systemd/system"

// ErrNoUnit is returned when systemd has no unit file of that name.
var ErrNoUnit = errors.New("there is no such unit")

// Options are all settings of a Manager.
type Options struct {
	// Timeout bounds one call; DefaultTimeout when zero.
	Timeout time.Duration
	// UnitDir is where templates are installed; DefaultUnitDir when empty.
	UnitDir string
}

// Manager is this host's systemd.
type Manager struct {
	opts Options

	mu   sync.Mutex
	conn *dbus.Conn // nil or not connected: the next call dials
	// unread: a unit file was written that systemd may not have read yet.
	unread atomic.Bool
}

// New returns a Manager. It connects at the first call, and again whenever the
// connection was lost (systemd drops it when it re-executes itself).
func New(o Options) *Manager {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.UnitDir == "" {
		o.UnitDir = DefaultUnitDir
	}
	return &Manager{opts: o}
}

// Close ends the connection.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

func (m *Manager) connect() (*dbus.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
	// The context given to the library is the connection's whole life, so a
	// caller's deadline has no place here. The socket is local: dialing doesn't hang.
	c, err := dbus.NewWithContext(context.Background())
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	m.conn = c
	return c, nil
}

// call runs one exchange under a deadline and names it in the error.
func (m *Manager) call(ctx context.Context, what string, do func(context.Context, *dbus.Conn) error) error {
	c, err := m.connect()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	ctx, cancel := context.WithTimeout(ctx, m.opts.Timeout)
	defer cancel()
	if err := do(ctx, c); err != nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	return nil
}

// explain turns the errors that a caller decides on into sentinels. systemd has
// two names for a unit it doesn't know, depending on the question.
func explain(err error) error {
	var named godbus.Error
	if errors.As(err, &named) && slices.Contains([]string{
		"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.FileNotFound", "System.Error.ENOENT",
	}, named.Name) {
		return fmt.Errorf("%w (%s)", ErrNoUnit, err.Error())
	}
	return err
}

// Ping reports whether systemd answers.
func (m *Manager) Ping(ctx context.Context) error {
	return m.call(ctx, "ask systemd", func(ctx context.Context, c *dbus.Conn) error {
		_, err := c.SystemStateContext(ctx)
		return err
	})
}

// Status returns a unit's state. A unit that doesn't exist is LoadState
// "not-found", not an error.
func (m *Manager) Status(ctx context.Context, unit string) (State, error) {
	return m.state(ctx, unit, true)
}

// Brief is Status without what only a service has: its process, restarts and result.
// systemd tells those among two hundred other things, which is three quarters of the
// work, and whoever only compares needs none.
func (m *Manager) Brief(ctx context.Context, unit string) (State, error) {
	return m.state(ctx, unit, false)
}

func (m *Manager) state(ctx context.Context, unit string, service bool) (State, error) {
	var s State
	err := m.call(ctx, "read state of "+unit, func(ctx context.Context, c *dbus.Conn) error {
		u, err := c.GetUnitPropertiesContext(ctx, unit)
		if err != nil {
			return err
		}
		s = State{
			LoadState: text(u["LoadState"]), ActiveState: text(u["ActiveState"]), SubState: text(u["SubState"]),
			UnitFileState: text(u["UnitFileState"]), FragmentPath: text(u["FragmentPath"]),
			Description: text(u["Description"]),
		}
		if us, ok := u["InactiveExitTimestamp"].(uint64); ok && us > 0 {
			s.Began = time.UnixMicro(int64(us))
		}
		if s.LoadState == NotFound || !service || !strings.HasSuffix(unit, ".service") {
			return nil
		}
		p, err := c.GetUnitTypePropertiesContext(ctx, unit, "Service")
		if err != nil {
			return err
		}
		if pid, ok := p["MainPID"].(uint32); ok {
			s.MainPID = int(pid)
		}
		if n, ok := p["NRestarts"].(uint32); ok {
			s.Restarts = int(n)
		}
		if code, ok := p["ExecMainStatus"].(int32); ok {
			s.ExitStatus = int(code)
		}
		s.Result = text(p["Result"])
		return nil
	})
	return s, err
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// spokeBefore is less than any unit of ours waits between two runs.
const spokeBefore = 50 * time.Millisecond

// Journal returns the unit's last lines, of its present or last run when that is
// known. It is for messages to people, so failing to read it is no error.
//
// The run is told by its time, not by its invocation: that journald finds out from the
// process, and of the last words of one that has ended it does not know it any more
// (4 of 7 starts that failed, measured). And it may not have read them yet, so it is
// asked to first. A process may have spoken before systemd has looked at the clock for its
// start (8 of 150 starts, by half a millisecond), so a little of the time before counts.
//
// This runs journalctl: the journal has no protocol of its own, and the library
// that reads its files needs cgo.
func (m *Manager) Journal(ctx context.Context, unit string, lines int) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	args := []string{"--no-pager", "--quiet", "-o", "cat", "-n", fmt.Sprint(lines), "-u", unit}
	if s, err := m.Status(ctx, unit); err == nil && !s.Began.IsZero() {
		since := s.Began.Add(-spokeBefore)
		args = append(args, fmt.Sprintf("--since=@%d.%06d", since.Unix(), since.Nanosecond()/1000))
	}
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run() // the words that are there say something, too
	out, err := exec.CommandContext(ctx, "journalctl", args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// InstallTemplate writes a unit file and makes systemd read it, if it is not so
// already. It reports whether anything changed.
func (m *Manager) InstallTemplate(ctx context.Context, name string, content []byte) (bool, error) {
	if strings.ContainsAny(name, "/ ") || name == "" {
		return false, fmt.Errorf("install unit %q: not a unit's name", name)
	}
	path := m.opts.UnitDir + "/" + name
	d, err := files.Same(path, content, 0o644, "")
	if err != nil {
		return false, fmt.Errorf("install unit %s: %w", name, err)
	}
	if !d.Any() && !m.unread.Load() {
		return false, nil
	}
	if d.Any() {
		if err := files.AtomicWrite(path, content, 0o644, ""); err != nil {
			return false, fmt.Errorf("install unit %s: %w", name, err)
		}
	}
	m.unread.Store(true) // until systemd has read it, the next call tells it again
	if err := m.DaemonReload(ctx); err != nil {
		return true, err
	}
	m.unread.Store(false)
	return true, nil
}

// RemoveTemplate removes a unit file that InstallTemplate wrote and makes systemd
// read that. One with other content is somebody's own and stays.
func (m *Manager) RemoveTemplate(ctx context.Context, name string, content []byte) (bool, error) {
	if strings.ContainsAny(name, "/ ") || name == "" {
		return false, fmt.Errorf("remove unit %q: not a unit's name", name)
	}
	path := m.opts.UnitDir + "/" + name
	found, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(found, content) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove unit %s: %w", name, err)
	}
	if err := (files.FS{}).Remove(path); err != nil {
		return false, fmt.Errorf("remove unit %s: %w", name, err)
	}
	return true, m.DaemonReload(ctx)
}
