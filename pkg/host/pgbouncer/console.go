package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// errNoSocket: no PgBouncer listens in the folder.
var errNoSocket = errors.New("it has no socket")

// console is one connection to an admin console.
type console struct {
	conn *pgconn.PgConn
	// port is the one PgBouncer listens on, pid its process; 0: not known.
	port, pid int
}

// socketIn finds the socket in a pooler's folder, whose name has the port; the newest
// when a change of the port left an old one behind.
func socketIn(dir string) (port int, err error) {
	const prefix = ".s.PGSQL."
	found, _ := filepath.Glob(filepath.Join(dir, prefix+"*")) // only a malformed pattern is an error
	var newest time.Time
	for _, f := range found {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(f), prefix))
		if err != nil {
			continue // .lock
		}
		if st, err := os.Stat(f); err == nil && st.ModTime().After(newest) {
			port, newest = n, st.ModTime()
		}
	}
	if port == 0 {
		return 0, fmt.Errorf("connect to the console in %s: %w", dir, errNoSocket)
	}
	return port, nil
}

// open connects to the console of the PgBouncer whose socket is in the folder.
func open(ctx context.Context, dir string) (*console, error) {
	port, err := socketIn(dir)
	if err != nil {
		return nil, err
	}
	pc, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=pgbouncer dbname=pgbouncer sslmode=disable", dir, port))
	if err != nil {
		return nil, fmt.Errorf("connect to the console in %s: %w", dir, err)
	}
	pc.Password, pc.RuntimeParams = "", nil // whatever the environment says
	c := &console{port: port}
	pc.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialAsOwner(ctx, network, addr)
		if err == nil {
			c.pid = peer(conn)
		}
		return conn, err
	}
	if c.conn, err = pgconn.ConnectConfig(ctx, pc); err != nil {
		return nil, fmt.Errorf("connect to the console in %s: %w", dir, err)
	}
	return c, nil
}

func (c *console) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = c.conn.Close(ctx)
}

// row is one line of an answer, by column.
type row map[string]string

// ask sends one command and returns what it shows. A command that shows nothing
// returns no rows.
func (c *console) ask(ctx context.Context, command string) ([]row, error) {
	results, err := c.conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	var out []row
	for _, r := range results {
		for _, values := range r.Rows {
			one := row{}
			for i, f := range r.FieldDescriptions {
				one[f.Name] = string(values[i])
			}
			out = append(out, one)
		}
	}
	return out, nil
}

// dialAsOwner connects to a unix socket as its owner: the kernel tells PgBouncer who
// that is, and PgBouncer lets its own user into the console. A thread's ids are its
// own, so it is one thread that changes them and then ends.
func dialAsOwner(ctx context.Context, network, addr string) (net.Conn, error) {
	st, err := os.Stat(addr)
	if err != nil {
		return nil, err
	}
	owner := int(st.Sys().(*syscall.Stat_t).Uid)
	var d net.Dialer
	if os.Geteuid() == owner || os.Geteuid() != 0 {
		return d.DialContext(ctx, network, addr)
	}
	type dialed struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialed, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(owner), ^uintptr(0)); e != 0 {
			done <- dialed{err: fmt.Errorf("become user %d: %w", owner, e)}
			return
		}
		conn, err := d.DialContext(ctx, network, addr)
		_, _, _ = syscall.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 0, ^uintptr(0)) // the main thread can't end
		done <- dialed{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// peer is the process at the other end of a unix socket; 0 when the kernel does not say.
func peer(conn net.Conn) int {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}
