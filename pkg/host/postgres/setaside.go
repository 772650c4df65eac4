package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// setAsideMark is in the name of every data directory that a removed member left.
const setAsideMark = ".removed-"

// SetAside renames the data directory of a member that was removed, and returns
// where the data are now; empty when there are none. A later member of the same
// cluster or name then begins with an empty place instead of starting on old data.
//
// It renames only what is a PostgreSQL data directory in which no server runs; that
// one is a *plan.Refusal. A directory that can't be renamed, because it is a mount
// point, stays where it is. Called again it says the same.
func SetAside(data, uid string) (where string, err error) {
	if !filepath.IsAbs(data) || filepath.Clean(data) != data || filepath.Dir(data) == data {
		return "", fmt.Errorf("set aside %q: expected an absolute, clean path", data)
	}
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		return lastSetAside(data), nil
	} else if err != nil {
		return "", fmt.Errorf("set aside %s: %w", data, err)
	}
	if err := StandsStill(data); err != nil {
		return "", err
	}
	to := data + setAsideMark + uid[:min(8, len(uid))]
	for i := 2; exists(to); i++ {
		to = fmt.Sprintf("%s%s%s-%d", data, setAsideMark, uid[:min(8, len(uid))], i)
	}
	err = os.Rename(data, to)
	switch {
	case errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV):
		return data, nil // a mount point
	case err != nil:
		return "", fmt.Errorf("set aside: %w", err)
	}
	synced(filepath.Dir(data))
	return to, nil
}

// synced brings a rename to the disk. One that is not there is undone by a crash of the host
// and by nothing else.
func synced(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	_ = d.Sync()
}

// StandsStill is a *plan.Refusal while a PostgreSQL runs in a data directory.
func StandsStill(data string) error {
	pid := runsIn(data)
	if pid == 0 {
		return nil
	}
	return &plan.Refusal{
		Reason:  observed.ApplyFailed,
		Message: fmt.Sprintf("PostgreSQL (pid %d) still runs in %s", pid, data),
		Next:    fmt.Sprintf("kill -INT %d (PostgreSQL stops at once and in order)", pid),
	}
}

// Move renames a data directory in which no PostgreSQL runs to a name that is free, on the
// same file system.
func Move(from, to string) error {
	if err := StandsStill(from); err != nil {
		return err
	}
	if exists(to) {
		return fmt.Errorf("rename %s: %s is there already", from, to)
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	synced(filepath.Dir(to))
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// lastSetAside finds what an earlier call renamed.
func lastSetAside(data string) string {
	found, err := filepath.Glob(data + setAsideMark + "*")
	if err != nil || len(found) == 0 {
		return ""
	}
	return slices.MaxFunc(found, func(a, b string) int {
		x, errX := os.Stat(a)
		y, errY := os.Stat(b)
		if errX != nil || errY != nil {
			return strings.Compare(a, b)
		}
		// A rename changes a directory's ctime, which tells the newest.
		i, j := x.Sys().(*syscall.Stat_t).Ctim, y.Sys().(*syscall.Stat_t).Ctim
		return int(i.Nano()/1000 - j.Nano()/1000)
	})
}

// runsIn is the process that runs in a data directory; 0 when none does. A pid file
// that a crash left behind names a process that is gone or is something else.
func runsIn(data string) int {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return 0
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || !strings.HasPrefix(string(comm), "postgres") {
		return 0
	}
	return pid
}
