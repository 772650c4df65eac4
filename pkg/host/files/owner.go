package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// owner is a user and group as numbers.
type owner struct{ uid, gid int }

// lookup turns "user:group" into numbers; names and numbers both do. Empty is
// whoever runs this program, which is root:root for an agent.
func lookup(s string) (owner, error) {
	if s == "" {
		return owner{os.Geteuid(), os.Getegid()}, nil
	}
	u, g, ok := strings.Cut(s, ":")
	if !ok || u == "" || g == "" {
		return owner{}, fmt.Errorf("owner %q is not user:group", s)
	}
	var o owner
	var err error
	if o.uid, err = strconv.Atoi(u); err != nil {
		found, err := user.Lookup(u)
		if err != nil {
			return owner{}, fmt.Errorf("look up owner %q: %w", s, err)
		}
		if o.uid, err = strconv.Atoi(found.Uid); err != nil {
			return owner{}, fmt.Errorf("look up owner %q: %w", s, err)
		}
	}
	if o.gid, err = strconv.Atoi(g); err != nil {
		found, err := user.LookupGroup(g)
		if err != nil {
			return owner{}, fmt.Errorf("look up owner %q: %w", s, err)
		}
		if o.gid, err = strconv.Atoi(found.Gid); err != nil {
			return owner{}, fmt.Errorf("look up owner %q: %w", s, err)
		}
	}
	return o, nil
}

// Credential is what a process runs with as a user; nil where this program is not root, as in
// tests, and everything runs as whoever runs it.
func Credential(name string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, errU := strconv.ParseUint(u.Uid, 10, 32)
	gid, errG := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(errU, errG)
}

// ParseMode reads a mode as plans write it, "0640".
func ParseMode(s string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("mode %q is not an octal number up to 0777", s)
	}
	return fs.FileMode(n), nil
}
