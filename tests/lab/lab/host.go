package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrOff says that the host does not run.
var ErrOff = errors.New("host is off")

// bootTimeout bounds one boot; measured: 3 s alone, 6 s with three others on two cores.
const bootTimeout = 90 * time.Second

// Host is one machine of a lab: a Debian with systemd, journald and D-Bus, reached by its address or entered by Exec.
type Host struct {
	Name string // also its host name, and known to all hosts by /etc/hosts
	IP   string // IPv4 address of eth0
	lab  *Lab
}

func (h *Host) dir() string { return filepath.Join(labDir(h.lab.name), h.Name) }

// Disk is the host's root folder as the machine sees it, valid while the lab is up, also when the host is off. Without what the host mounts
// on it (/run, /tmp).
func (h *Host) Disk() string { return filepath.Join(h.dir(), "root") }

// Running says whether the host's systemd runs; a boot that has not finished counts.
func (h *Host) Running() bool {
	pid, err := leader(h.lab.name, h.Name)
	return err == nil && pid != 0
}

// Boot starts a host that is off, from its disk as it was, and returns when systemd has finished booting, with failed units or without
// (Debian's two exporters fail until configured). The network is new: addresses and routes of the last boot are gone; cuts stay. On a host
// that runs already it only waits, if that one is still booting.
func (h *Host) Boot(ctx context.Context) error {
	started, how := time.Now(), "booted"
	if h.Running() {
		how = "was running"
	} else if err := h.start(ctx); err != nil {
		return fmt.Errorf("boot host %s: %w", h.Name, err)
	}
	result, err := h.waitBooted(ctx)
	if err != nil {
		return fmt.Errorf("boot host %s: %w; the end of its console:\n%s", h.Name, err, tail(h.console(), 15))
	}
	h.lab.log.Say("%-6s %-12s %s, %.1f s, systemd: %s", h.Name, h.IP, how, time.Since(started).Seconds(), result)
	return nil
}

// waitBooted returns systemd's word when it has started everything.
func (h *Host) waitBooted(ctx context.Context) (result string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("systemd did not finish booting in %s", bootTimeout))
	defer cancel()
	dirs, err := cgroups(h.lab.name, h.Name)
	if err != nil {
		return "", err
	}
	err = poll(ctx, 50*time.Millisecond, func() (bool, error) {
		if pids, err := processes(dirs); err != nil || len(pids) == 0 {
			return false, errors.Join(err, errors.New("systemd-nspawn ended"))
		}
		// It exits with 1 when degraded; before systemd listens it says nothing we look for.
		result, _ = h.Exec(ctx, "systemctl", "is-system-running", "--wait")
		result = strings.TrimSpace(result)
		return result == "running" || result == "degraded", nil
	})
	return result, err
}

func (h *Host) console() string { return filepath.Join(h.dir(), "console.log") }

// start makes everything a machine stands on and starts it in the background, where it outlives this process.
func (h *Host) start(ctx context.Context) error {
	dirs, err := cgroups(h.lab.name, h.Name)
	if err != nil {
		return err
	}
	if err := killAll(ctx, dirs); err != nil { // a supervisor without its machine
		return err
	}
	if err := h.mount(); err != nil {
		return err
	}
	if err := plugHost(ctx, h.lab.name, hostState{Name: h.Name, IP: h.IP}); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	console, err := os.OpenFile(h.console(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer console.Close()
	// The shell moves itself into the cgroups before nspawn reads where it is, and its end hands nspawn to process 1 of the machine.
	const script = `for dir in $CGROUPS; do echo $$ >"$dir/cgroup.procs" || exit 1; done; "$@" &`
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, h.nspawn()...)...)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"CGROUPS=" + strings.Join(dirs, " "),
		"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",      // cgroup v2 inside, as on any Debian host, also on a hybrid machine
		"SYSTEMD_NSPAWN_API_VFS_WRITABLE=network", // sysctl net.* belongs to the host's own namespace
	}
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Run()
}

// nspawn is the command line of the machine. CAP_NET_ADMIN (addresses, firewall) and CAP_IPC_LOCK are what a real host's root has and
// nspawn withholds when the namespace is not its own making.
func (h *Host) nspawn() []string {
	return []string{
		tool("systemd-nspawn"), "--quiet", "--boot", "--directory=" + h.Disk(), "--machine=" + hostNamespace(h.lab.name, h.Name), "--hostname=" + h.Name,
		"--network-namespace-path=/run/netns/" + hostNamespace(h.lab.name, h.Name), "--capability=CAP_NET_ADMIN,CAP_IPC_LOCK",
		"--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=passive",
	}
}

// mount lays the host's overlay over the image. "volatile" drops every fsync: the disk outlives the host, not a crash of the machine. A
// work folder left by one refuses to be mounted again, and it holds nothing, so it is made new.
func (h *Host) mount() error {
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || slices.Contains(mountsBelow(string(mounts), h.dir()), h.Disk()) {
		return err
	}
	upper, work := filepath.Join(h.dir(), "upper"), filepath.Join(h.dir(), "work")
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	for _, dir := range []string{upper, work, h.Disk()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,volatile", h.lab.state.Image, upper, work)
	if err := unix.Mount("overlay", h.Disk(), "overlay", 0, data); err != nil {
		return fmt.Errorf("mount overlay %s: %w", h.Disk(), err)
	}
	return h.writeIdentity()
}

// writeIdentity writes what makes this host itself: name, machine-id (once: it is by which a reinstalled host is told from a rebooted one),
// and the names of all hosts. Unknown names are asked of infra1's dnsmasq, once and briefly.
func (h *Host) writeIdentity() error {
	etc := filepath.Join(h.Disk(), "etc")
	if _, err := os.Stat(etc); errors.Is(err, os.ErrNotExist) {
		return nil // not mounted yet: mount calls again
	}
	id := make([]byte, 16)
	rand.Read(id)
	files := map[string]string{
		"hostname":    h.Name + "\n",
		"hosts":       hostsFile(h.lab.state),
		"resolv.conf": resolvConf(h.lab.state),
	}
	// The image's is missing or empty.
	if have, err := os.ReadFile(filepath.Join(etc, "machine-id")); err != nil || len(have) == 0 {
		files["machine-id"] = hex.EncodeToString(id) + "\n"
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write identity of host %s: %w", h.Name, err)
		}
	}
	return nil
}

func hostsFile(s state) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	fmt.Fprintf(&b, "%s %s\n", address(s.Subnet, 1), machineName)
	for _, h := range s.Hosts {
		fmt.Fprintf(&b, "%s %s\n", h.IP, h.Name)
	}
	return b.String()
}

func resolvConf(s state) string {
	server := "127.0.0.1"
	for _, h := range s.Hosts {
		if h.Name == "infra1" {
			server = h.IP
		}
	}
	return "nameserver " + server + "\noptions timeout:1 attempts:1\n"
}

// PowerOff is a crash of the whole host: the network is gone at once, then every process is killed. The disk stays for [Host.Boot]. A host
// that is off is no error.
func (h *Host) PowerOff(ctx context.Context) error {
	// A host that never ran has no port.
	_ = batch(ctx, switchNamespace(h.lab.name), fmt.Sprintf("link set %s down\n", portOf(h.Name)))
	return h.clear(ctx)
}

// Shutdown asks systemd to power off in order, as an operator would, and waits until it has (at most until the context ends).
func (h *Host) Shutdown(ctx context.Context) error {
	if !h.Running() {
		return nil
	}
	if _, err := h.Exec(ctx, "systemctl", "poweroff"); err != nil && h.Running() {
		return fmt.Errorf("shut down host %s: %w", h.Name, err)
	}
	dirs, err := cgroups(h.lab.name, h.Name)
	if err != nil {
		return err
	}
	err = poll(ctx, 50*time.Millisecond, func() (bool, error) {
		pids, err := processes(dirs)
		return len(pids) == 0, err
	})
	if err != nil {
		return fmt.Errorf("shut down host %s: %w", h.Name, err)
	}
	return h.clear(ctx)
}

// Reboot shuts the host down in order and boots it again.
func (h *Host) Reboot(ctx context.Context) error {
	if err := h.Shutdown(ctx); err != nil {
		return err
	}
	return h.Boot(ctx)
}

// clear kills what runs and removes the network; the disk stays mounted.
func (h *Host) clear(ctx context.Context) error {
	dirs, err := cgroups(h.lab.name, h.Name)
	if err != nil {
		return err
	}
	if err := killAll(ctx, dirs); err != nil {
		return fmt.Errorf("power off host %s: %w", h.Name, err)
	}
	return unplugHost(ctx, h.lab.name, h.Name)
}

// waitList is the names not ready yet, for a progress line.
type waitList struct {
	mu    sync.Mutex
	names []string
}

func newWaitList(names []string) *waitList { return &waitList{names: slices.Clone(names)} }

func (w *waitList) remove(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names = slices.DeleteFunc(w.names, func(n string) bool { return n == name })
}

// String lists them.
func (w *waitList) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.names, ", ")
}
