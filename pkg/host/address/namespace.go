package address

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// in runs fn in the Manager's network namespace. A socket stays in the namespace it
// was opened in, so only opening sockets has to happen in here.
func (m *Manager) in(fn func() error) error {
	if m.o.Namespace == "" {
		return fn()
	}
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open this thread's network namespace: %w", err)
	}
	defer unix.Close(own)
	if err := enter(m.o.Namespace); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		// A thread that can't go back stays locked and ends with its goroutine.
		if unix.Setns(own, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return fn()
}

func enter(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}
