package scratch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// within reports whether a path is a folder or below it.
func within(path, folder string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// makeFolder makes an order's folder, of PostgreSQL's user alone. What an earlier run of the
// same step left is removed first; anything else stays, and is refused.
//
// Its parent is PostgreSQL's user's as a rule, who may put anything there meanwhile: nothing is
// followed, and nothing but what was made here is given away.
func makeFolder(o Order, user string) error {
	what := "make " + o.Dir
	if err := removeFolder(o.Dir, o.Step); err != nil {
		return err
	}
	parent, err := os.OpenRoot(filepath.Dir(o.Dir))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer parent.Close()
	name := filepath.Base(o.Dir)
	if err := parent.Mkdir(name, 0o700); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	root, err := parent.OpenRoot(name)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer root.Close()
	dir, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("%s: somebody put another folder in its place", what)
	}
	b, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := root.WriteFile(orderFile, b, 0o644); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	as, err := files.Credential(user)
	if err != nil || as == nil {
		return err
	}
	if err := dir.Chown(int(as.Uid), int(as.Gid)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// removeFolder removes a scratch restore's folder: one that has an order in it, of a step
// where that is given, or that is empty. No link is followed, neither to it nor in it.
func removeFolder(dir, step string) error {
	what := "remove " + dir
	parent, err := os.OpenRoot(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer parent.Close()
	name := filepath.Base(dir)
	info, err := parent.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case !info.IsDir():
		return notOurs(dir, "it is no folder")
	}
	// One that has nothing in it was made a moment before a crash.
	if err := parent.Remove(name); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	root, err := parent.OpenRoot(name)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer root.Close()
	var o Order
	if mark, err := root.Lstat(orderFile); err != nil || !mark.Mode().IsRegular() || !readIn(root, orderFile, &o) || o.Step == "" {
		return notOurs(dir, "no scratch restore made it")
	}
	if step != "" && o.Step != step {
		return notOurs(dir, "it is of step "+o.Step)
	}
	if err := parent.RemoveAll(name); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func notOurs(dir, why string) error {
	return &plan.Refusal{Reason: observed.Unmanaged, Message: fmt.Sprintf("%s is in the way of a scratch restore and is left as it is: %s", dir, why),
		Next: "ls -la " + dir}
}

// readIn reads a small file of JSON that PostgreSQL's user may have put anything in place of.
func readIn(root *os.Root, name string, into any) bool {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	const most = 256 << 10
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return false
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	return err == nil && json.Unmarshal(b, into) == nil
}

// read reads one of the folder's own files.
func (o Order) read(name string, into any) bool {
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return false
	}
	defer root.Close()
	return readIn(root, name, into)
}

// stated is what a stage writes about this order and no other.
type stated struct {
	Step string `json:"step"`
	*Result
}

// result is what came of it; the error: nothing did yet.
func (o Order) result() (*Result, error) {
	var s stated
	if !o.read(resultFile, &s) || s.Step != o.Step || s.Result == nil {
		return nil, fmt.Errorf("the scratch restore of step %s left no result in %s", o.Step, o.Dir)
	}
	return s.Result, nil
}

// at is how far it is.
func (o Order) at() (*observed.Progress, string) {
	var a progress
	o.read(atFile, &a) // what is not there yet says nothing
	return a.Progress, a.Message
}

// progress is how far a stage is.
type progress struct {
	Progress *observed.Progress `json:"progress,omitempty"`
	Message  string             `json:"message"`
}

// writeWhole writes a file of JSON so that whoever reads it finds all of it or the one before.
func writeWhole(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
