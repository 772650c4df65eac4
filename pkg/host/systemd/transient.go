package systemd

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Transient is a service without a file: it is there while it runs, and after that until
// Forget, so that how it ended can be read.
type Transient struct {
	Unit, Description string
	User              string
	// Args are the program, with its path, and its arguments.
	Args []string
	// After are units that are stopped later than this one.
	After []string
	// Nice and IOPriority (0 to 7, the least) are the process's, Weight (1 to 10000, others
	// have 100) its share of processor and disk.
	Nice, IOPriority int
	Weight           uint64
	// Watchdog is how long it lives without Feed; it is stopped then, and killed when that
	// takes longer than StopWithin.
	Watchdog, StopWithin time.Duration
	// RuntimeMax is how long it may run at most, MemoryMax how many bytes all of its processes
	// may have and TasksMax how many those are; 0: as long, and as many, as it wants.
	RuntimeMax          time.Duration
	MemoryMax, TasksMax uint64
	// Whole: when it is stopped, all of its processes are told to end and not only the main one.
	Whole bool
	// Privileged: it may run programs that give it other privileges, such as sudo.
	Privileged bool
	// Sandbox is what it may not do; nil: what its user may, it may.
	Sandbox *Sandbox
}

// properties are the unit's in systemd's words. They say everything, so no other setting of
// the host's makes it another unit on another host.
func (t Transient) properties() []dbus.Property {
	p := func(name string, v any) dbus.Property { return dbus.Property{Name: name, Value: godbus.MakeVariant(v)} }
	// The program ends its helpers by itself; what is left after it is killed.
	kill := "mixed"
	if t.Whole {
		kill = "control-group"
	}
	out := append([]dbus.Property{
		dbus.PropDescription(t.Description),
		dbus.PropType("exec"), // a program or user that is not there is an error of the start
		dbus.PropExecStart(t.Args, false),
		dbus.PropRemainAfterExit(true),
		dbus.PropAfter(t.After...),
		p("User", t.User),
		p("Nice", int32(t.Nice)),
		p("IOSchedulingClass", int32(ioBestEffort)),
		p("IOSchedulingPriority", int32(t.IOPriority)),
		p("CPUWeight", t.Weight),
		p("IOWeight", t.Weight),
		p("NoNewPrivileges", !t.Privileged),
		p("KillMode", kill),
		p("TimeoutStopUSec", uint64(t.StopWithin.Microseconds())),
		p("TimeoutAbortUSec", uint64(t.StopWithin.Microseconds())),
		p("WatchdogUSec", uint64(t.Watchdog.Microseconds())),
		p("WatchdogSignal", int32(unix.SIGTERM)),
		p("NotifyAccess", "main"),
		// The helpers of a database are not what the kernel should kill first or last.
		p("OOMScoreAdjust", int32(200)),
	}, t.Sandbox.properties()...)
	if t.RuntimeMax > 0 {
		out = append(out, p("RuntimeMaxUSec", uint64(t.RuntimeMax.Microseconds())))
	}
	if t.MemoryMax > 0 {
		out = append(out, p("MemoryMax", t.MemoryMax))
	}
	if t.TasksMax > 0 {
		out = append(out, p("TasksMax", t.TasksMax))
	}
	return out
}

// ioBestEffort is the kernel's class of disk access in which processes are by default.
const ioBestEffort = 2

// StartTransient starts a service without a file and waits until its program runs, or has run: one
// that ends at once, whichever way, was started, and its state says how it ended.
func (m *Manager) StartTransient(ctx context.Context, t Transient) error {
	start := func(c *dbus.Conn, ctx context.Context, unit, mode string, ch chan<- string) (int, error) {
		return c.StartTransientUnitContext(ctx, unit, mode, t.properties(), ch)
	}
	err := m.job(ctx, "start", t.Unit, start)
	if err == nil {
		return nil
	}
	if s, asked := m.Status(ctx, t.Unit); asked == nil && s.ran() {
		return nil
	}
	return err
}

// The exit statuses with which systemd itself says that it could not begin a program
// (systemd.exec(5), "Process exit codes").
const (
	exitsOfSystemd   = 200
	exitsOfNobodyYet = 250
)

// ran reports whether a program that has failed was begun at all. systemd says of one that ends
// before it was looked at only that its start failed.
func (s State) ran() bool {
	switch s.Result {
	case "exit-code":
		return s.ExitStatus != 0 && (s.ExitStatus < exitsOfSystemd || s.ExitStatus >= exitsOfNobodyYet)
	case "signal", "core-dump", "oom-kill":
		return true
	}
	return false
}

// Forget has systemd forget how a unit failed, so that a transient one is gone.
func (m *Manager) Forget(ctx context.Context, unit string) { m.resetFailed(ctx, unit) }

// notifySocket is where systemd hears from services.
const notifySocket = "/run/systemd/notify"

// Feed tells systemd on behalf of a unit's main process that it lives. Whoever watches over a
// program that knows nothing of systemd may say so in its place, as root: systemd goes by
// the credentials that come with the word, and the kernel lets root give another process's.
func (m *Manager) Feed(ctx context.Context, unit string) error {
	s, err := m.Status(ctx, unit)
	if err != nil {
		return err
	}
	if s.MainPID == 0 {
		return nil // it has ended, and nothing waits to be fed
	}
	// Not the library's own connection: that of a datagram has no place for credentials.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("feed the watchdog of %s: %w", unit, err)
	}
	defer unix.Close(fd)
	as := unix.UnixCredentials(&unix.Ucred{Pid: int32(s.MainPID), Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())})
	if err := unix.Sendmsg(fd, []byte("WATCHDOG=1"), as, &unix.SockaddrUnix{Name: notifySocket}, unix.MSG_DONTWAIT); err != nil {
		return fmt.Errorf("feed the watchdog of %s: %w", unit, err)
	}
	return nil
}
