package certificate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// largest is more than any chain of certificates takes.
const largest = 1 << 20

// readAs reads a file with the rights of a user, its groups included. Who may read what
// along a path is the kernel's to say. A thread's rights are its own, so it is one thread
// that gives its own up and then ends.
func readAs(name, path string) ([]byte, fs.FileInfo, error) {
	if os.Geteuid() != 0 {
		return open(path)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, nil, err
	}
	uid, errU := strconv.ParseUint(u.Uid, 10, 32)
	gid, errG := strconv.ParseUint(u.Gid, 10, 32)
	ids, err := u.GroupIds()
	if err := errors.Join(errU, errG, err); err != nil {
		return nil, nil, err
	}
	groups := []uint32{uint32(gid)}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	type answer struct {
		b   []byte
		st  fs.FileInfo
		err error
	}
	done := make(chan answer, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var before [256]uint32
		n, _, e := syscall.RawSyscall(unix.SYS_GETGROUPS, uintptr(len(before)), uintptr(unsafe.Pointer(&before[0])), 0)
		if e == 0 {
			_, _, e = syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
		}
		if e == 0 {
			_, _, e = syscall.RawSyscall(unix.SYS_SETRESGID, ^uintptr(0), uintptr(gid), ^uintptr(0))
		}
		if e == 0 {
			_, _, e = syscall.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0))
		}
		var a answer
		if a.err = fmt.Errorf("become user %s: %w", name, e); e == 0 {
			a.b, a.st, a.err = open(path)
		}
		// The main thread can't end.
		_, _, _ = syscall.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 0, ^uintptr(0))
		_, _, _ = syscall.RawSyscall(unix.SYS_SETRESGID, ^uintptr(0), 0, ^uintptr(0))
		_, _, _ = syscall.RawSyscall(unix.SYS_SETGROUPS, n, uintptr(unsafe.Pointer(&before[0])), 0)
		done <- a
	}()
	a := <-done
	return a.b, a.st, a.err
}

func open(path string) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // whoever put a pipe there does not hold us up
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, nil, errors.New("it is no file")
	}
	b, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err == nil && len(b) > largest {
		err = fmt.Errorf("it has more than %d bytes", largest)
	}
	return b, st, err
}

// guarded is PostgreSQL's own rule about a key: root's and readable by a group at most, or
// its own and readable by nobody else.
func guarded(st fs.FileInfo, name string) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	mode := st.Mode().Perm()
	switch u, err := user.LookupId(strconv.FormatUint(uint64(sys.Uid), 10)); {
	case sys.Uid == 0 && mode&0o037 != 0, sys.Uid != 0 && mode&0o077 != 0:
		return fmt.Errorf("others can read it (mode %04o); PostgreSQL takes 0600, or 0640 when it is root's", mode)
	case sys.Uid != 0 && os.Geteuid() == 0 && (err != nil || u.Username != name):
		return fmt.Errorf("it belongs to neither root nor %s, which PostgreSQL wants", name)
	}
	return nil
}
