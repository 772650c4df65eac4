package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// hierarchy is a mounted cgroup tree that systemd-nspawn uses: cgroup v2, and on a hybrid machine also v1's name=systemd. Controllers of
// v1 are left alone: the lab limits nothing.
type hierarchy struct {
	path string
	v2   bool
}

// hierarchies are read each time: it is one small file, and a wrong memory of it would leave processes behind.
func hierarchies() ([]hierarchy, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	found := parseHierarchies(string(content))
	if len(found) == 0 || !found[0].v2 {
		return nil, errors.New("find cgroups: no cgroup v2 is mounted (pure v2 and hybrid work, pure v1 does not)")
	}
	return found, nil
}

// parseHierarchies finds the trees in mountinfo, v2 first.
func parseHierarchies(mountinfo string) (found []hierarchy) {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		h := hierarchy{path: left[4], v2: right[0] == "cgroup2"}
		named := right[0] == "cgroup" && slices.Contains(strings.Split(right[2], ","), "name=systemd")
		if (h.v2 || named) && !slices.ContainsFunc(found, func(o hierarchy) bool { return o.v2 == h.v2 }) {
			found = append(found, h)
		}
	}
	slices.SortFunc(found, func(a, b hierarchy) int { return strings.Compare(fmt.Sprint(b.v2), fmt.Sprint(a.v2)) })
	return found
}

// cgroups are the folders of a host, one in each hierarchy; with an empty host those of the whole lab. Each machine needs its own: nspawn
// started in one cgroup twice would give two machines one and the same "payload", and `systemctl kill` in one would reach into the other.
func cgroups(lab, host string) ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, h := range all {
		dirs = append(dirs, filepath.Join(h.path, "pgctrl-"+lab, host))
	}
	return dirs, nil
}

// processes are the ids of all processes below the folders, machine and supervisor.
func processes(dirs []string) ([]int, error) {
	var pids []int
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) { // a unit ended meanwhile
				return nil
			}
			if err != nil || !entry.IsDir() {
				return err
			}
			pids = append(pids, readPIDs(filepath.Join(path, "cgroup.procs"))...)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list processes of %s: %w", dir, err)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// readPIDs is empty for a cgroup that vanished.
func readPIDs(path string) (pids []int) {
	content, _ := os.ReadFile(path)
	for field := range strings.FieldsSeq(string(content)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// leader is the process id, as the machine sees it, of the systemd that is process 1 of the host; 0 when the host is off or not that far.
func leader(lab, host string) (int, error) {
	dirs, err := cgroups(lab, host)
	if err != nil {
		return 0, err
	}
	for _, sub := range []string{"payload/init.scope", "payload"} {
		for _, pid := range readPIDs(filepath.Join(dirs[0], sub, "cgroup.procs")) {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if isInit(status) {
				return pid, nil
			}
		}
	}
	return 0, nil
}

// isInit says whether /proc/PID/status is of a systemd that is process 1 of a namespace of its own. Before it is named systemd it is nspawn
// still setting up mounts, which must not be entered.
func isInit(status []byte) bool {
	named, first := false, false
	for line := range bytes.Lines(status) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "Name:":
			named = fields[1] == "systemd"
		case "NSpid:":
			first = len(fields) > 2 && fields[len(fields)-1] == "1"
		case "State:":
			if fields[1] == "Z" {
				return false
			}
		}
	}
	return named && first
}

// removeCgroups removes empty trees, leaves first.
func removeCgroups(dirs []string) error {
	for _, dir := range dirs {
		var found []string
		filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				found = append(found, path)
			}
			return nil
		})
		for _, path := range slices.Backward(found) {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove cgroup: %w", err)
			}
		}
	}
	return nil
}

// proportionalMemory sums the bytes of RAM the processes account for, with shared pages split among their users, so that PostgreSQL's
// shared buffers count once. It needs no memory controller, which hybrid machines don't hand out.
func proportionalMemory(pids []int) (total uint64) {
	for _, pid := range pids {
		content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)) // gone meanwhile: counts nothing
		for line := range bytes.Lines(content) {
			if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
				kib, _ := strconv.ParseUint(strings.Fields(string(rest))[0], 10, 64)
				total += kib * 1024
			}
		}
	}
	return total
}
