package lab

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// HostStatus is what one host is doing.
type HostStatus struct {
	Name, IP string
	State    string        // systemd's word (running, degraded, starting, stopping ...), or off, or frozen
	Boot     time.Duration // from systemd's start to the end of booting; 0 when not known
	Memory   uint64        // bytes of RAM its processes account for, shared pages split
	Cut      []string      // what its switch port drops: "to pg2", "from *"
}

// Status looks at every host. It never fails for a host that is off or frozen: that is its state.
func (l *Lab) Status(ctx context.Context) ([]HostStatus, error) {
	s, err := readState(statePath(l.name))
	if err != nil {
		return nil, fmt.Errorf("read state of lab %s: %w", l.name, err)
	}
	var all []HostStatus
	for _, h := range l.hosts {
		status := h.status(ctx)
		for _, c := range s.Cuts {
			if c.From == h.Name || c.From == "*" && c.To != h.Name {
				status.Cut = append(status.Cut, "to "+c.To)
			}
			if c.To == h.Name || c.To == "*" && c.From != h.Name {
				status.Cut = append(status.Cut, "from "+c.From)
			}
		}
		all = append(all, status)
	}
	return all, nil
}

func (h *Host) status(ctx context.Context) HostStatus {
	s := HostStatus{Name: h.Name, IP: h.IP, State: "off"}
	dirs, err := cgroups(h.lab.name, h.Name)
	if err != nil || !h.Running() {
		return s
	}
	if pids, err := processes(dirs); err == nil {
		s.Memory = proportionalMemory(pids)
	}
	if h.frozen() {
		s.State = "frozen"
		return s
	}
	out, err := h.Exec(ctx, "systemctl", "show", "-p", "SystemState,UserspaceTimestampMonotonic,FinishTimestampMonotonic")
	if err != nil {
		s.State = "unknown"
		return s
	}
	s.State, s.Boot = parseBoot(out)
	return s
}

// parseBoot reads the manager's properties as `systemctl show` prints them; the times are microseconds since the kernel's start.
func parseBoot(out string) (state string, boot time.Duration) {
	value := map[string]string{}
	for line := range strings.Lines(out) {
		name, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		value[name] = v
	}
	began, _ := strconv.ParseInt(value["UserspaceTimestampMonotonic"], 10, 64) // 0, the property's own word for not yet
	ended, _ := strconv.ParseInt(value["FinishTimestampMonotonic"], 10, 64)
	if ended > began {
		boot = time.Duration(ended-began) * time.Microsecond
	}
	return value["SystemState"], boot
}

// Journal is a unit's last lines (a pattern such as patroni@* works), with time and without colours, for messages of failed tests. What
// went wrong is in the text: a helper that fails on the way to explain a failure helps nobody.
func (h *Host) Journal(ctx context.Context, unit string) string { return h.journal(ctx, 80, unit) }

func (h *Host) journal(ctx context.Context, lines int, units ...string) string {
	args := []string{"journalctl", "--no-pager", "--no-hostname", "-o", "short-precise", "-n", strconv.Itoa(lines)}
	for _, u := range units {
		args = append(args, "-u", u)
	}
	out, err := h.Exec(ctx, args...)
	if err != nil {
		out += err.Error() + "\n"
	}
	return out
}

// diagnosed are the units whose journals explain most failures.
var diagnosed = []string{"pgagent*", "pgctrl*", "patroni@*", "haproxy@*", "pgbouncer@*"}

// Diagnose writes what a failed test's reader wants: for every host its state, failed units, addresses and the last 80 lines of the journals
// of pgagent, pgctrl, Patroni, HAProxy and PgBouncer. It takes at most 10 s a host.
func (l *Lab) Diagnose(ctx context.Context, w io.Writer) {
	all, err := l.Status(ctx)
	if err != nil {
		fmt.Fprintln(w, "diagnose:", err)
		return
	}
	for i, s := range all {
		fmt.Fprintf(w, "==== %s %s %s", s.Name, s.IP, s.State)
		if len(s.Cut) > 0 {
			fmt.Fprintf(w, ", cut %s", strings.Join(s.Cut, ", "))
		}
		fmt.Fprintln(w)
		h := l.hosts[i]
		if s.State == "off" || s.State == "frozen" {
			fmt.Fprintln(w, tail(h.console(), 15))
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		for _, argv := range [][]string{
			{"systemctl", "--no-pager", "--no-legend", "--plain", "--failed"},
			{"ip", "-br", "address"},
		} {
			out, err := h.Exec(ctx, argv...)
			if err != nil {
				out += err.Error() + "\n"
			}
			fmt.Fprintf(w, "---- %s\n%s", strings.Join(argv, " "), out)
		}
		fmt.Fprintf(w, "---- journal of %s\n%s", strings.Join(diagnosed, " "), h.journal(ctx, 80, diagnosed...))
		cancel()
	}
}
