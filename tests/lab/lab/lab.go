package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ErrNoLab says that no lab of this name exists.
var ErrNoLab = errors.New("no such lab; bring it up first")

// Lab is a set of hosts. Its methods may be used from many goroutines, except Down and Close.
type Lab struct {
	name  string
	log   *Log
	state state // hosts, subnet, image; cuts are read from the file whenever needed
	hosts []*Host
	lock  *os.File // nil when attached only
}

// Up boots the hosts of a lab in parallel and returns when systemd on each has finished booting (about 5 s). The first call on a machine
// also installs packages and builds the image (about a minute). It is idempotent: hosts that run are kept, those that are off are booted
// from their disks, half-made ones are made anew; see [Options.Fresh]. It waits while another process holds the same lab. On an error what
// was booted stays for a look; Down removes it.
func Up(ctx context.Context, options Options) (*Lab, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	log := NewLog(o.Log)
	if err := installTools(ctx, log); err != nil {
		return nil, err
	}
	lock, err := acquire(ctx, lockPath(o.Name), log)
	if err != nil {
		return nil, fmt.Errorf("lock lab %s: %w", o.Name, err)
	}
	l := &Lab{name: o.Name, log: log, lock: lock}
	if err := l.up(ctx, o); err != nil {
		l.Close()
		return nil, fmt.Errorf("bring up lab %s: %w", o.Name, err)
	}
	return l, nil
}

func (l *Lab) up(ctx context.Context, o Options) error {
	if o.Fresh {
		if err := l.remove(ctx); err != nil {
			return err
		}
	}
	image, err := BuildImage(ctx, o.Image, false, l.log)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(labDir(l.name), 0o755); err != nil {
		return fmt.Errorf("create lab folder: %w", err)
	}
	if have, err := readState(statePath(l.name)); err == nil && have.Subnet != o.Subnet {
		return fmt.Errorf("subnet %s: this lab has %s; bring it down first", o.Subnet, have.Subnet)
	}
	// Before the state is written: a subnet that can't be had must not be remembered.
	if err := plugMachine(ctx, l.name, o.Subnet); err != nil {
		return err
	}
	err = updateState(l.name, func(s *state) {
		if s.Name == "" {
			*s = state{Name: l.name, Subnet: o.Subnet, Image: image}
		}
		s.Hosts = assign(s.Subnet, s.Hosts, o.Hosts)
		l.state = *s
	}, nil)
	if err != nil {
		return err
	}
	if l.state.Image != image {
		l.log.Say("note: this lab stands on %s, not on the current %s; bring it down to change", filepath.Base(l.state.Image), filepath.Base(image))
	}
	l.setHosts()
	if err := l.changeCuts(ctx, "all hosts", func(have []cut) []cut { return have }); err != nil {
		return err
	}
	return l.boot(ctx, o.Hosts)
}

// boot starts the hosts that are off and waits for all, telling every 5 s for whom.
func (l *Lab) boot(ctx context.Context, names []string) error {
	group, ctx := errgroup.WithContext(ctx)
	waiting := newWaitList(names)
	for _, h := range l.hosts {
		if err := h.writeIdentity(); err != nil { // hosts that run learn the names of new ones
			return err
		}
		if !slices.Contains(names, h.Name) {
			continue
		}
		group.Go(func() error {
			if err := h.Boot(ctx); err != nil {
				return err
			}
			waiting.remove(h.Name)
			return nil
		})
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Second):
				l.log.Say("waiting for systemd to finish booting on %s", waiting)
			}
		}
	}()
	return group.Wait()
}

// Attach finds a lab that is up, without taking its lock: to look, to run commands, to cut and heal. ErrNoLab when there is none.
func Attach(name string) (*Lab, error) {
	s, err := readState(statePath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("attach to lab %s: %w", name, ErrNoLab)
	}
	if err != nil {
		return nil, fmt.Errorf("attach to lab %s: %w", name, err)
	}
	l := &Lab{name: name, log: NewLog(nil), state: s}
	l.setHosts()
	return l, nil
}

func lockPath(name string) string { return labDir(name) + ".lock" }

func (l *Lab) setHosts() {
	l.hosts = nil
	for _, h := range l.state.Hosts {
		l.hosts = append(l.hosts, &Host{Name: h.Name, IP: h.IP, lab: l})
	}
}

// Name of the lab.
func (l *Lab) Name() string { return l.name }

// Hosts of the lab in the order they were named, running or not.
func (l *Lab) Hosts() []*Host { return slices.Clone(l.hosts) }

// Host of this name; nil when there is none.
func (l *Lab) Host(name string) *Host {
	for _, h := range l.hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Address is an address of the lab's subnet by its last byte. Those below 10 belong to nobody, so tests use them as virtual addresses.
func (l *Lab) Address(last int) string { return address(l.state.Subnet, last) }

// Address6 is the IPv6 address beside that one; the network is its /64.
func (l *Lab) Address6(last int) string { return ipv6(l.Address(last)) }

// Machine is the machine itself as a party of cuts: an argument for [Host.Cut] and [Host.Heal], or cut from hosts itself. Nothing else of
// it works: its commands are run with os/exec.
func (l *Lab) Machine() *Host {
	return &Host{Name: machineName, IP: address(l.state.Subnet, 1), lab: l}
}

// Close lets go of the lab and leaves its hosts running; another process may then Up or Down it. Closing twice is no error.
func (l *Lab) Close() {
	if l.lock != nil {
		l.lock.Close()
		l.lock = nil
	}
}

// Down removes the lab: machines, namespaces, interfaces, overlays, disks. It finds them by name in the system, so it works after a crash,
// on half of a lab, and twice. It refuses with ErrInUse while another process holds the lab. The image stays.
func (l *Lab) Down(ctx context.Context) error {
	if l.lock == nil {
		lock, err := acquire(ctx, lockPath(l.name), nil)
		if err != nil {
			return fmt.Errorf("bring down lab %s: %w", l.name, err)
		}
		l.lock = lock
	}
	defer l.Close()
	if err := l.remove(ctx); err != nil {
		return fmt.Errorf("bring down lab %s: %w", l.name, err)
	}
	return nil
}

// Down removes the lab of this name without attaching, also when its state file is lost. With force it does so under the nose of the
// process that holds it.
func Down(ctx context.Context, name string, force bool) error {
	l := &Lab{name: name, log: NewLog(nil)}
	if !force {
		return l.Down(ctx)
	}
	return l.remove(ctx)
}

// remove goes from what runs to what it stands on.
func (l *Lab) remove(ctx context.Context) error {
	dirs, err := cgroups(l.name, "")
	if err != nil {
		return err
	}
	if err := killAll(ctx, dirs); err != nil {
		return err
	}
	if err := unplugMachine(ctx, l.name); err != nil {
		return err
	}
	namespaces, err := labNamespaces(l.name)
	if err != nil {
		return err
	}
	for _, n := range namespaces {
		if err := removeNamespace(ctx, n); err != nil {
			return err
		}
	}
	if err := unmountBelow(labDir(l.name)); err != nil {
		return err
	}
	// nspawn removes these itself unless it was killed. They are empty: what was mounted there was so in the machine's namespace only.
	for _, dir := range must(filepath.Glob("/run/systemd/nspawn/propagate/" + hostNamespace(l.name, "*"))) {
		os.Remove(dir)
	}
	if err := os.RemoveAll(labDir(l.name)); err != nil {
		return fmt.Errorf("remove disks: %w", err)
	}
	os.Remove(labDir(l.name) + ".state.lock")
	return nil
}

// killAll ends every process in the cgroups and removes them. Process 1 of a machine takes all others along, and nspawn then cleans up by
// itself, so it gets 2 s before it is killed too.
func killAll(ctx context.Context, dirs []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("processes survived SIGKILL for 15 s"))
	defer cancel()
	started := time.Now()
	err := poll(ctx, 10*time.Millisecond, func() (bool, error) {
		pids, err := processes(dirs)
		if err != nil || len(pids) == 0 {
			return len(pids) == 0, err
		}
		for _, pid := range pids {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if isInit(status) || time.Since(started) > 2*time.Second {
				unix.Kill(pid, unix.SIGKILL) // gone already: the next look tells
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("kill machines: %w", err)
	}
	return removeCgroups(dirs)
}

// unmountBelow detaches every mount below a folder, deepest first.
func unmountBelow(dir string) error {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	for _, point := range mountsBelow(string(content), dir) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}

func mountsBelow(mountinfo, dir string) (points []string) {
	for line := range strings.Lines(mountinfo) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	slices.Reverse(points)
	return points
}
