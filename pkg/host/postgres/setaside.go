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
	if pid := runsIn(data); pid > 0 {
		return "", &plan.Refusal{
			Reason:  observed.ApplyFailed,
			Message: fmt.Sprintf("PostgreSQL (pid %d) still runs in %s", pid, data),
			Next:    fmt.Sprintf("kill -INT %d (PostgreSQL stops at once and in order)", pid),
		}
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
	d, err := os.Open(filepath.Dir(data))
	if err != nil {
		return to, nil // it is renamed; only a crash of the host could undo that
	}
	defer d.Close()
	_ = d.Sync()
	return to, nil
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
