package pgbackrest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	// AskWithin bounds each question to the repository before a replica is made: a primary
	// that could be copied meanwhile is waiting.
	AskWithin = 15 * time.Second
	// paceEvery is how often a restore's pace is looked at, and paceLeast how many bytes it
	// must have written in that time: 1 MB/s, a hundredth of what a slow disk takes. A store
	// that gives less is taken for one that gives nothing.
	paceEvery = time.Minute
	paceLeast = 60 << 20
)

// ErrPace: a restore that got on too slowly was ended.
var ErrPace = errors.New("the repository gives too little")

// Processes is how many processes the cluster's file has restore at once.
func (d *Driver) Processes(cluster string) (int, error) {
	c, err := readConfig(cluster)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(c.get(cluster, "process-max", "1"))
	return max(n, 1), err
}

// segmentName is how a segment's file begins in the archive; what compresses it is behind.
var segmentName = regexp.MustCompile(`^[0-9A-F]{24}`)

// Archived are the segments that the archive has of the stanza, from one on.
func (d *Driver) Archived(ctx context.Context, cluster, from string) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, AskWithin)
	defer cancel()
	const what = "list the archive"
	out, err := d.run(ctx, what, cluster, "--recurse", "--filter=/[0-9A-F]{24}-", "repo-ls", "archive/"+cluster)
	for line := range strings.Lines(string(out)) {
		// Of another timeline too, so only what is behind the timeline's number counts.
		if name := segmentName.FindString(filepath.Base(strings.TrimSpace(line))); name != "" && name[8:] >= from[min(8, len(from)):] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

// Restore puts a backup into an empty data directory and prints what pgBackRest says. How
// PostgreSQL recovers is for Patroni to write. It ends by itself when pgBackRest gets on
// too slowly.
func (d *Driver) Restore(ctx context.Context, cluster, label, data string, out io.Writer) error {
	const what = "restore a backup"
	as, err := files.Credential(d.o.User)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cmd := exec.CommandContext(ctx, d.o.Binary, "--config="+plan.BackupConfig(cluster), "--stanza="+cluster, "--pg1-path="+data,
		"--set="+label, "--type=none", "--log-level-console=info", "--log-level-stderr=off", "restore")
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = cleanEnvironment, "/", out, out
	// Patroni ends its children one by one; whoever is left must not write into a folder that
	// is another copy's by then.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	go keepPace(ctx, stop, paceEvery, paceLeast, func() int64 { return written(cmd.Process.Pid) })
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.Is(context.Cause(ctx), ErrPace):
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case errors.As(err, &exit) && ctx.Err() == nil:
		return failed(what, cluster, d.o.Node, exit.ExitCode(), "")
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// keepPace ends a work of which too little was done in a period.
func keepPace(ctx context.Context, stop context.CancelCauseFunc, every time.Duration, least int64, done func() int64) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for before := int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := done()
		if got := now - before; got < least {
			stop(fmt.Errorf("%w: %d MB in %s", ErrPace, max(got, 0)>>20, every))
			return
		}
		before = now
	}
}

// written is how many bytes a process and its children have written, those that have ended
// included.
func written(pid int) (sum int64) {
	sum = writtenBy(pid)
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is good
	for _, f := range tasks {
		b, _ := os.ReadFile(f) // one that ends just now has none
		for _, child := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(child); err == nil {
				sum += written(n)
			}
		}
	}
	return sum
}

func writtenBy(pid int) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "wchar: "); ok {
			n, _ := strconv.ParseInt(v, 10, 64) // the kernel wrote it
			return n
		}
	}
	return 0
}
