package holders

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// look is how often paths of namespaces are looked at, for hosts that were booted anew.
const look = 10 * time.Millisecond

// Observer listens until it is stopped.
type Observer struct {
	hosts []*hostState
	// own is the network namespace of the listening thread: made for it, so that the
	// names of the others' namespaces in it disturb nobody.
	own, fd int
	buffer  int
	stop    chan struct{}
	done    chan struct{}
	// ids names each namespace that was ever heard; a host's next boot is another.
	ids  map[int32]*hostState
	next int32

	mu  sync.Mutex
	t   Timeline
	now map[string]bool
}

type hostState struct {
	Host
	at map[place]bool
}

// place is one occurrence of the address.
type place struct {
	id    int32
	index uint32
	bits  byte
}

// Observe begins to watch an address. It returns when all namespaces that exist are
// heard; who has the address then has it from the start. It needs root.
func Observe(address netip.Addr, hosts ...Host) (*Observer, error) {
	o := &Observer{
		stop: make(chan struct{}), done: make(chan struct{}), ids: map[int32]*hostState{}, now: map[string]bool{},
		t: Timeline{Address: address.Unmap(), Start: time.Now()}, fd: -1, own: -1, buffer: buffer,
	}
	for _, h := range hosts {
		o.hosts = append(o.hosts, &hostState{Host: h, at: map[place]bool{}})
	}
	ready := make(chan error, 1)
	go o.run(ready)
	if err := <-ready; err != nil {
		<-o.done
		return nil, fmt.Errorf("observe %s: %w", address, err)
	}
	return o, nil
}

// Stop ends the watch and returns what was seen.
func (o *Observer) Stop() Timeline {
	select {
	case <-o.stop:
	default:
		close(o.stop)
	}
	<-o.done
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.t
}

// Holders returns who has the address now, sorted.
func (o *Observer) Holders() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var hs []string
	for h := range o.now {
		hs = append(hs, h)
	}
	slices.Sort(hs)
	return hs
}

func (o *Observer) run(ready chan<- error) {
	defer close(o.done)
	runtime.LockOSThread() // never unlocked: the thread ends with its namespace
	defer o.close()
	err := o.open()
	if err == nil {
		o.findHosts(false)
	}
	ready <- err
	if err != nil {
		return
	}
	looked := time.Now()
	for {
		o.read(look)
		select {
		case <-o.stop:
			o.read(0)
			o.mu.Lock()
			o.t.End = time.Now()
			o.mu.Unlock()
			return
		default:
		}
		if time.Since(looked) >= look {
			o.findHosts(true)
			looked = time.Now()
		}
	}
}

func (o *Observer) open() (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace to listen in (needs root): %w", err)
	}
	if o.own, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	// The order of messages doesn't depend on it, their times do. Not being allowed to is no fault.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -15)
	o.fd, err = listen(o.t.Address, o.buffer)
	return err
}

func (o *Observer) close() {
	for _, fd := range []int{o.fd, o.own} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// findHosts begins to hear namespaces that are new at their paths.
func (o *Observer) findHosts(late bool) {
	for _, h := range o.hosts {
		fd, err := unix.Open(h.Namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // off
		}
		// The kernel is asked, because a namespace may have the inode number of one that ended.
		if id, err := netlink.GetNetNsIdByFd(fd); err == nil && id < 0 {
			o.hear(h, fd, late)
		}
		unix.Close(fd)
	}
}

// hear begins to hear one namespace, and notes whether it has the address already.
// It is none yet between the two steps of `ip netns add`.
func (o *Observer) hear(h *hostState, fd int, late bool) {
	id := o.next
	if err := netlink.SetNetNsIdByFd(fd, int(id)); err != nil {
		return
	}
	o.next++
	o.ids[id] = h
	if late {
		o.read(0) // what others said before comes before
	}
	found, err := o.list(fd, id)
	if err != nil {
		o.blind("%s: addresses not listed: %v", h.Name, err)
	}
	for _, p := range found {
		h.at[p] = true
	}
	o.note(h, time.Now())
}

// list reads where a namespace has the address.
func (o *Observer) list(fd int, id int32) (found []place, err error) {
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if back := unix.Setns(o.own, unix.CLONE_NEWNET); back != nil {
		return nil, errors.Join(err, back)
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == o.t.Address {
			bits, _ := a.Mask.Size()
			found = append(found, place{id, uint32(a.LinkIndex), byte(bits)})
		}
	}
	return found, err
}

// note writes down that a host began or ceased to have the address, if so.
func (o *Observer) note(h *hostState, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	has := len(h.at) > 0
	if has == o.now[h.Name] {
		return
	}
	o.t.Changes = append(o.t.Changes, Change{At: at, Host: h.Name, Has: has})
	if o.now[h.Name] = has; !has {
		delete(o.now, h.Name)
	}
}

func (o *Observer) blind(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.t.Blind = append(o.t.Blind, clock(time.Now())+"  "+fmt.Sprintf(format, args...))
}

// read takes what the kernel said, waiting for its first word at most wait.
func (o *Observer) read(wait time.Duration) {
	b, control := make([]byte, 64<<10), make([]byte, 256)
	fds := []unix.PollFd{{Fd: int32(o.fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, int(wait/time.Millisecond)); err != nil && !errors.Is(err, unix.EINTR) {
		o.blind("poll: %v", err)
		return
	}
	for {
		n, cn, _, _, err := unix.Recvmsg(o.fd, b, control, unix.MSG_DONTWAIT)
		at := time.Now()
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			o.blind("messages were lost: %v", os.NewSyscallError("recvmsg", err))
			return
		}
		for _, m := range decode(b[:n], control[:cn]) {
			o.take(m, at)
		}
	}
}

// take folds one message in.
func (o *Observer) take(m message, at time.Time) {
	h := o.ids[m.place.id]
	switch {
	case h == nil:
		return
	case m.kind == namespaceGone:
		for p := range h.at {
			if p.id == m.place.id {
				delete(h.at, p)
			}
		}
	case m.ip != o.t.Address:
		return
	case m.kind == added:
		h.at[m.place] = true
	case m.kind == removed:
		delete(h.at, m.place)
	}
	o.note(h, at)
}
