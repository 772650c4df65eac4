package files

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
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

// ParseMode reads a mode as plans write it, "0640".
func ParseMode(s string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("mode %q is not an octal number up to 0777", s)
	}
	return fs.FileMode(n), nil
}
