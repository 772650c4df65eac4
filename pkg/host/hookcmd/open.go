package hookcmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Program is a program that may be run, as it was when it was looked at.
type Program struct {
	// Path is where it was found.
	Path string
	file *os.File
}

// Close gives it up.
func (p *Program) Close() { _ = p.file.Close() } // nothing was written

var programName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// openFlags: a descriptor that stands for the file and reads nothing, so that a pipe or a device
// does not wait; a symbolic link is opened itself.
const openFlags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC

// Open looks for a program in a folder, and refuses one that others than root could have put
// there. name is the program's, alone or with the folder before it. top is the folder from
// which on all is looked at; "/" but in tests.
func Open(top, dir, name string) (*Program, error) {
	if d, base := filepath.Split(name); filepath.Clean(d) == filepath.Clean(dir) {
		name = base
	}
	if !programName.MatchString(name) {
		return nil, refuse("ls -l "+dir, "program %q is not in the folder of hooks %s: expected the name of a file in it, letters, digits and . _ -", name, dir)
	}
	below, err := filepath.Rel(top, dir)
	if err != nil || below == ".." || strings.HasPrefix(below, "../") {
		return nil, refuse("pgagent config dump", "the folder of hooks %s is not in %s", dir, top)
	}
	at, err := unix.Open(top, openFlags|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", top, err)
	}
	defer func() { _ = unix.Close(at) }()
	path := filepath.Clean(top)
	if err := ours(at, path, true); err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(below, "/") {
		if part == "." {
			continue
		}
		path = filepath.Join(path, part)
		next, err := unix.Openat(at, part, openFlags, 0)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil, refuse("install -d -o root -g root -m 0755 "+dir, "there is no folder %s, which programs of hooks are in", path)
		case err != nil:
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		_ = unix.Close(at)
		at = next
		if err := ours(at, path, true); err != nil {
			return nil, err
		}
	}
	path = filepath.Join(path, name)
	fd, err := unix.Openat(at, name, openFlags, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, refuse("install -o root -g root -m 0755 "+name+" "+path, "there is no program %s", path)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := ours(fd, path, false); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &Program{Path: path, file: os.NewFile(uintptr(fd), path)}, nil
}

// ours says what is wrong with a folder or program that is open; nil: it is root's alone to change.
// A list of access rights (ACL) that lets somebody write shows in the group's bit, which is its mask.
func ours(fd int, path string, folder bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	kind, mode := st.Mode&unix.S_IFMT, st.Mode&0o7777
	who := ""
	switch {
	case mode&0o022 == 0o022:
		who = "its group and others"
	case mode&0o020 != 0:
		who = "its group"
	case mode&0o002 != 0:
		who = "others"
	}
	switch {
	case kind == unix.S_IFLNK && folder:
		return refuse("pgagent config dump", "%s is a symbolic link; set hooks_dir to the folder that it leads to", path)
	case kind == unix.S_IFLNK:
		return refuse("cp --remove-destination $(readlink -f "+path+") "+path, "%s is a symbolic link; the program itself has to be there", path)
	case folder && kind != unix.S_IFDIR:
		return refuse("ls -ld "+path, "%s is not a folder", path)
	case !folder && kind == unix.S_IFDIR:
		return refuse("ls -l "+path, "%s is a folder and not a program", path)
	case !folder && kind != unix.S_IFREG:
		return refuse("ls -l "+path, "%s is not a regular file", path)
	case st.Uid != 0:
		return refuse("chown root:root "+path, "%s belongs to user %d and not to root", path, st.Uid)
	case who != "":
		return refuse("chmod go-w "+path, "%s can be written by %s (mode %04o)", path, who, mode)
	case !folder && mode&0o100 == 0:
		return refuse("chmod u+x "+path, "%s is not executable (mode %04o)", path, mode)
	}
	return nil
}

// refuse says what is wrong, and the command that mends it.
func refuse(next, format string, args ...any) error {
	return &plan.Refusal{Reason: observed.HookRefused, Message: fmt.Sprintf(format, args...), Next: next}
}
