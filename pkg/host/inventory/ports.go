package inventory

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Listener is a process that accepts connections on a TCP port.
type Listener struct {
	Address netip.AddrPort
	// PID is 0 when the process can't be told: it is another user's and this is
	// not root, or it has just ended.
	PID     int
	Command string
	// Unit is the systemd unit the process belongs to, if any.
	Unit string
}

// String names the holder for a message.
func (l Listener) String() string {
	switch {
	case l.PID == 0:
		return "an unknown process on " + l.Address.String()
	case l.Unit == "":
		return fmt.Sprintf("%s (pid %d) on %s", l.Command, l.PID, l.Address)
	default:
		return fmt.Sprintf("%s (pid %d, %s) on %s", l.Command, l.PID, l.Unit, l.Address)
	}
}

// Listening returns who listens on a TCP port of this machine, on any address.
// Empty: the port is free.
func Listening(port int) ([]Listener, error) { return (&Host{}).Listening(port) }

// Listening returns who listens on a TCP port, on any address.
func (h *Host) Listening(ports ...int) ([]Listener, error) {
	byInode := map[string]netip.AddrPort{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if err := h.readTable(table, ports, byInode); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read listening ports: %w", err)
		}
	}
	if len(byInode) == 0 {
		return nil, nil // the usual case, and the walk over all processes is the dear part
	}
	owners := h.owners(byInode)
	var out []Listener
	for inode, addr := range byInode {
		l := Listener{Address: addr}
		if pid := owners[inode]; pid != 0 {
			l.PID, l.Command, l.Unit = pid, h.command(pid), h.unitOf(pid)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Listener) int { return a.Address.Compare(b.Address) })
	return out, nil
}

// readTable collects the inodes of listening sockets on the wanted ports.
func (h *Host) readTable(table string, ports []int, into map[string]netip.AddrPort) error {
	f, err := os.Open(h.path(table))
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...
		col := strings.Fields(s.Text())
		const listen = "0A"
		if len(col) < 10 || col[3] != listen {
			continue
		}
		addr, err := parseAddress(col[1])
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
		if slices.Contains(ports, int(addr.Port())) {
			into[col[9]] = addr
		}
	}
	return s.Err()
}

// parseAddress reads the kernel's "0100007F:1538": words of 32 bits in the
// machine's byte order, the port in the network's.
func parseAddress(s string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(s, ":")
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q has no port", s)
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %w", s, err)
	}
	b, err := hex.DecodeString(host)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("address %q is not in words", s)
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	ip, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q has a wrong length", s)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}

// owners finds the process that has each socket open. Of several (a server and
// its forked workers) the lowest pid, which is the parent in all but a wrapped
// pid space, and right enough for a message then.
func (h *Host) owners(inodes map[string]netip.AddrPort) map[string]int {
	out := map[string]int{}
	fds, err := filepath.Glob(h.path("/proc/[0-9]*/fd"))
	if err != nil {
		return out
	}
	for _, dir := range fds {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err != nil {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it ended, or is another user's
		}
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err != nil {
				continue
			}
			inode, ok := strings.CutPrefix(target, "socket:[")
			inode = strings.TrimSuffix(inode, "]")
			if _, wanted := inodes[inode]; !ok || !wanted {
				continue
			}
			if have := out[inode]; have == 0 || pid < have {
				out[inode] = pid
			}
		}
	}
	return out
}

func (h *Host) command(pid int) string {
	b, err := os.ReadFile(h.path(fmt.Sprintf("/proc/%d/comm", pid)))
	if err != nil {
		return "a process that just ended"
	}
	return strings.TrimSpace(string(b))
}

// unitOf reads the unit from the process's control group.
func (h *Host) unitOf(pid int) string {
	b, err := os.ReadFile(h.path(fmt.Sprintf("/proc/%d/cgroup", pid)))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		// "0::/system.slice/x.service" or, before cgroup v2, "1:name=systemd:/..."
		col := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(col) != 3 || col[1] != "" && col[1] != "name=systemd" {
			continue
		}
		parts := strings.Split(col[2], "/")
		for _, p := range slices.Backward(parts) {
			if strings.HasSuffix(p, ".service") || strings.HasSuffix(p, ".scope") {
				return p
			}
		}
	}
	return ""
}
