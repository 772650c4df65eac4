// Package netnstest makes small networks for tests: hosts that are network
// namespaces, on one bridge. It needs root and the program ip.
package netnstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Net is a bridge with hosts. Each host has one interface, eth0.
type Net struct {
	prefix string
	ports  map[string][]string // of each host, at the bridge
}

var made atomic.Int64

// New makes a network that lasts as long as the test. The hosts get 10.77.0.1/24
// and fd77::1/64, 10.77.0.2/24 and so on, in their order. Without root the test is skipped.
func New(t testing.TB, hosts ...string) *Net {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces need root")
	}
	n := &Net{ports: map[string][]string{}, prefix: fmt.Sprintf("pgctrl-t%d-%d-", os.Getpid(), made.Add(1))}
	n.add(t, "switch")
	n.IP(t, "switch", "link set lo up", "link add br0 type bridge mcast_snooping 0", "link set br0 up")
	for i, h := range hosts {
		n.add(t, h)
		n.Plug(t, h, "eth0", fmt.Sprintf("10.77.0.%d/24", i+1), fmt.Sprintf("fd77::%d/64", i+1))
	}
	return n
}

func (n *Net) add(t testing.TB, host string) {
	t.Helper()
	n.netns(t, "add", host)
	t.Cleanup(func() {
		if exists(n.Path(host)) {
			n.netns(t, "del", host)
		}
	})
}

func (n *Net) netns(t testing.TB, verb, host string) {
	t.Helper()
	if out, err := exec.Command("ip", "netns", verb, n.prefix+host).CombinedOutput(); err != nil {
		t.Fatalf("ip netns %s %s: %v: %s", verb, n.prefix+host, err, out)
	}
}

// Off takes a host's cables and namespace away, as a power cut does; On makes a
// new one at the same path, without any interface.
func (n *Net) Off(t testing.TB, host string) {
	t.Helper()
	for _, p := range n.ports[host] {
		n.IP(t, "switch", "link del "+p)
	}
	delete(n.ports, host)
	n.netns(t, "del", host)
}

// On: see Off.
func (n *Net) On(t testing.TB, host string) {
	t.Helper()
	n.netns(t, "add", host)
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// Plug connects a host's new interface, with addresses, to the bridge.
func (n *Net) Plug(t testing.TB, host, name string, addresses ...string) {
	t.Helper()
	port := fmt.Sprintf("p%d", made.Add(1))
	n.ports[host] = append(n.ports[host], port)
	n.IP(t, "switch", "link add "+port+" type veth peer name "+name+" netns "+n.prefix+host,
		"link set "+port+" master br0", "link set "+port+" up")
	script := []string{"link set lo up"}
	for _, a := range addresses {
		if strings.Contains(a, ":") {
			a += " nodad"
		}
		script = append(script, "addr add "+a+" dev "+name)
	}
	n.IP(t, host, append(script, "link set "+name+" up")...)
	n.await(t, "switch", port, "state forwarding")
	n.await(t, host, name, "state UP")
}

// await waits until an interface is as told: a busy kernel takes a while to pass on
// that a cable is plugged in, and until then it drops every packet.
func (n *Net) await(t testing.TB, host, name, state string) {
	t.Helper()
	for start := time.Now(); !strings.Contains(n.Show(t, host, "-d", "link", "show", "dev", name), state); time.Sleep(2 * time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("interface %s of %s is not in %q", name, host, state)
		}
	}
}

// Name is what `ip netns` calls the host.
func (n *Net) Name(host string) string { return n.prefix + host }

// Path is where the host's namespace is.
func (n *Net) Path(host string) string { return "/run/netns/" + n.prefix + host }

// IP runs lines of `ip -batch` in a host.
func (n *Net) IP(t testing.TB, host string, lines ...string) {
	t.Helper()
	cmd := exec.Command("ip", "-n", n.prefix+host, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip in %s: %v: %s", host, err, out)
	}
}

// Show runs one `ip` command in a host and returns its words.
func (n *Net) Show(t testing.TB, host string, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", append([]string{"-n", n.prefix + host}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s in %s: %v: %s", strings.Join(args, " "), host, err, out)
	}
	return string(out)
}

// In runs fn in a host. Sockets that it opens, and no goroutines, belong to the host.
func (n *Net) In(t testing.TB, host string, fn func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := unix.Open(n.Path(host), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("in %s: %v", host, err)
	}
}

// Hardware is the Ethernet address of a host's eth0.
func (n *Net) Hardware(t testing.TB, host string) (hw net.HardwareAddr) {
	t.Helper()
	n.In(t, host, func() error {
		in, err := net.InterfaceByName("eth0")
		if err == nil {
			hw = in.HardwareAddr
		}
		return err
	})
	return hw
}
