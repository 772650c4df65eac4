package pgbouncer

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// process is one process, looked at from outside: whether it ended, the moment it
// does, and whether a signal stopped it. Its own answers could say neither.
type process struct {
	gone chan struct{} // closed when it ended; nil: nobody says
	fd   *os.File
	stat *os.File
	buf  [512]byte
}

// lookAt begins to look. With an error it sees less than it could.
func lookAt(pid int) (*process, error) {
	p := &process{}
	if pid <= 0 {
		return p, fmt.Errorf("look at the process: the kernel did not name it")
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return p, fmt.Errorf("look at process %d: %w", pid, err)
	}
	p.fd = os.NewFile(uintptr(fd), "pidfd")
	if p.stat, err = os.Open(fmt.Sprintf("/proc/%d/stat", pid)); err != nil {
		p.close()
		return &process{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return p, fmt.Errorf("look at process %d: %w", pid, err)
	}
	gone := make(chan struct{})
	p.gone = gone
	go func() {
		// The runtime waits for the descriptor to get readable, which a process's is
		// when it ended; closing it ends the wait.
		err := raw.Read(func(fd uintptr) bool {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(poll, 0)
			return err == nil && n > 0
		})
		if err == nil {
			close(gone)
		}
	}()
	return p, nil
}

// stopped reports whether a signal stopped it.
func (p *process) stopped() bool {
	if p.stat == nil {
		return false
	}
	n, err := p.stat.ReadAt(p.buf[:], 0)
	if n == 0 && err != nil {
		return false // it ended; gone says so
	}
	// "123 (name) T ...", and a name may hold anything but comes last in brackets.
	i := bytes.LastIndexByte(p.buf[:n], ')')
	return i >= 0 && i+2 < n && p.buf[i+2] == 'T'
}

func (p *process) close() {
	if p.fd != nil {
		_ = p.fd.Close()
	}
	if p.stat != nil {
		_ = p.stat.Close()
	}
}
