package hookcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	// KillAfter is how long a program has to end by itself when it is told to.
	KillAfter = 2 * time.Second
	// drainFor is how long is waited for output of processes that left the program's group and
	// have its output still open; their unit ends them.
	drainFor = time.Second
)

// Order is a run of a program. Its fields are agent.HookOrder's, in their order.
type Order struct {
	Cluster, Hook string
	Program       string
	Arguments     []string
	Event         []byte
	EventID, Kind string
	Timeout       time.Duration
}

// Result is how a program ended.
type Result struct {
	// Exit is its exit code; -1 when a signal ended it, whose name is Signal then.
	Exit   int
	Signal string
	// TimedOut: it was ended because its time was over.
	TimedOut bool
	Took     time.Duration
	// Output is the beginning of what it wrote.
	Output string
}

// environment is all that a program is given. Nothing of the agent's own is in it.
func environment(o Order, node, path string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"PGCTRL_HOOK=" + strings.TrimSuffix(o.Hook, plan.HookOfFleet), "PGCTRL_EVENT_ID=" + o.EventID, "PGCTRL_EVENT_KIND=" + o.Kind,
		"PGCTRL_CLUSTER=" + o.Cluster, "PGCTRL_NODE=" + node, "PGCTRL_CAUSE=" + causeFor(o), "PGCTRL_PROGRAM=" + path,
	}
}

// causeFor is what pgctrl notes of the changes that the program makes: the event, and how many hooks
// lie between those changes and something that no hook did.
func causeFor(o Order) string {
	var body struct {
		Event struct {
			Hops int `json:"hops"`
		} `json:"event"`
	}
	if json.Unmarshal(o.Event, &body) != nil || body.Event.Hops < 1 {
		return o.EventID
	}
	return fmt.Sprintf("%s+%d", o.EventID, body.Event.Hops+1)
}

// Run runs the program and returns when it and its process group have ended. log, which may be nil, gets
// everything that it writes. When ctx ends it is ended as if its time were over, and ctx's
// cause is the error.
func (p *Program) Run(ctx context.Context, node string, o Order, log io.Writer) (Result, error) {
	what := "run " + p.Path
	stdin, err := memory("event", o.Event)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", what, err)
	}
	defer stdin.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", what, err)
	}
	defer out.Close()
	cmd := &exec.Cmd{
		// The file that was looked at, whatever has that name by now; the child has it as its third.
		Path: "/proc/self/fd/3", Args: append([]string{p.Path}, o.Arguments...), ExtraFiles: []*os.File{p.file},
		Env: environment(o, node, p.Path), Dir: "/", Stdin: stdin, Stdout: in, Stderr: in,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	began := time.Now()
	err = cmd.Start()
	_ = in.Close() // the program has its own
	if err != nil {
		return Result{}, notStarted(p.Path, err)
	}
	kept := &head{to: log}
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(kept, out) }() // it ends with the pipe or its deadline

	timedOut, cause := p.await(ctx, cmd.Process.Pid, o.Timeout)
	err = cmd.Wait()
	r := Result{TimedOut: timedOut, Took: time.Since(began)}
	_ = out.SetReadDeadline(time.Now().Add(drainFor))
	<-read
	r.Output = kept.String()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return r, fmt.Errorf("%s: %w", what, err)
	}
	r.Exit = cmd.ProcessState.ExitCode()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		r.Signal = unix.SignalName(ws.Signal())
	}
	if cause != nil {
		return r, fmt.Errorf("%s: %w", what, cause)
	}
	return r, nil
}

// await waits for the program's end, and sees to it: at its time-out and when ctx ends. It
// returns with the process still to be waited for, whose number is its group's, so that the group which
// is killed then, with all that the program left in it, is its own and no later one's.
func (p *Program) await(ctx context.Context, pid int, timeout time.Duration) (timedOut bool, cause error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
			continue
		}
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		timedOut = true
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	if timedOut || cause != nil {
		_ = unix.Kill(-pid, unix.SIGTERM)
		grace := time.NewTimer(KillAfter)
		defer grace.Stop()
		select {
		case <-ended:
		case <-grace.C:
		}
	}
	_ = unix.Kill(-pid, unix.SIGKILL) // nobody but the dead, where all went well
	<-ended
	return timedOut, cause
}

// memory is a file that is nowhere, with a content: unlike a pipe it needs nobody who fills it, and a
// program that does not read it is not in the way.
func memory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = f.Write(content); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write the event: %w", err)
	}
	return f, nil
}

// notStarted words what the kernel says of a file that it can't run.
func notStarted(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOEXEC):
		return refuse("head -1 "+path, "%s is neither a program for this machine nor a script whose first line begins with #!", path)
	case errors.Is(err, unix.ENOENT):
		return refuse("head -1 "+path, "%s needs an interpreter that is not there", path)
	case errors.Is(err, unix.EACCES):
		return refuse("findmnt -T "+path, "%s can't be run: its file system is mounted noexec, or its interpreter is not executable", path)
	}
	return fmt.Errorf("run %s: %w", path, err)
}
