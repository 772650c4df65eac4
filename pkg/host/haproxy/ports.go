package haproxy

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listener is one listening TCP socket of the host.
type listener struct {
	Host  string // "" is every address
	Port  int
	Inode string
}

// listeners reads the kernel's tables. A host without IPv6 has no second table.
func listeners() ([]listener, error) {
	var out []listener
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list listening sockets: %w", err)
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			if l, ok := parseListener(sc.Text()); ok {
				out = append(out, l)
			}
		}
		err = sc.Err()
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("list listening sockets: %w", err)
		}
	}
	return out, nil
}

// parseListener reads one line of /proc/net/tcp; 0A is the state of listening.
func parseListener(line string) (listener, bool) {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != "0A" {
		return listener{}, false
	}
	addr, port, ok := strings.Cut(f[1], ":")
	p, err := strconv.ParseUint(port, 16, 16)
	raw, err2 := hex.DecodeString(addr)
	if !ok || err != nil || err2 != nil || len(raw)%4 != 0 {
		return listener{}, false
	}
	for i := 0; i < len(raw); i += 4 { // the kernel prints words in host order (little endian)
		raw[i], raw[i+1], raw[i+2], raw[i+3] = raw[i+3], raw[i+2], raw[i+1], raw[i]
	}
	l := listener{Port: int(p), Inode: f[9]}
	if ip := net.IP(raw); !ip.IsUnspecified() {
		l.Host = ip.String()
	}
	return l, true
}

// clashes reports whether one socket would stop the other from listening. An
// address on one side and every address on the other clash as well.
func (l listener) clashes(b Bind) bool {
	return l.Port == b.Port && (l.Host == "" || b.Host == "" || l.Host == b.Host)
}

// sockets lists the inodes of the sockets that processes have open.
func sockets(pids ...int) map[string]bool {
	out := map[string]bool{}
	for _, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if target, err := os.Readlink(fd); err == nil {
				if inode, ok := strings.CutPrefix(target, "socket:["); ok {
					out[strings.TrimSuffix(inode, "]")] = true
				}
			}
		}
	}
	return out
}

// holder names the process that has a socket, for a message; "" when it can't be
// found.
func holder(inode string) string {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil || !sockets(pid)[inode] {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(p, "comm"))
		return fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(name)), pid)
	}
	return ""
}
