// Package files writes files so that a reader, a crash or a full disk finds
// either the old content or the new one and never a mixture, and puts a set of
// files back as it was.
//
// Writes are staged beside their target (a rename is only atomic within one file
// system), synced, given their owner and mode, and renamed; the folder is synced
// last, because a rename is not on disk before its folder is.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotAllowed is returned for a path outside the folders that may be written.
var ErrNotAllowed = errors.New("path is not in a folder the agent may write to")

// FS writes files. The zero value may write anywhere.
type FS struct {
	// Allow lists the folders that may be written to, as in "/etc/haproxy/"; empty
	// allows everything. A symbolic link that leads out of them is refused.
	Allow []string
	// Fault is called before each step of a write with the step's name and the
	// path; an error stands for the step failing. For tests.
	Fault func(step, path string) error
}

// AtomicWrite replaces path as a whole, anywhere. Owner is "user:group"; empty
// is whoever runs this program.
func AtomicWrite(path string, content []byte, mode fs.FileMode, owner string) error {
	return FS{}.AtomicWrite(path, content, mode, owner)
}

// AtomicWrite replaces path as a whole. When it returns an error before the
// rename, the old file is intact and nothing is left beside it.
func (f FS) AtomicWrite(path string, content []byte, mode fs.FileMode, owner string) error {
	p, err := f.Prepare(path, content, mode, owner)
	if err != nil {
		return err
	}
	return p.Commit()
}

// Remove deletes path; a missing file is not an error.
func (f FS) Remove(path string) error {
	r, err := f.open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	defer r.Close()
	if err := f.fault("remove", path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	if err := r.Remove(r.rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return r.syncFolder()
}

// Permitted reports, without touching anything, whether path may be written.
func (f FS) Permitted(path string) error {
	_, _, err := f.split(path)
	return err
}

func (f FS) fault(step, path string) error {
	if f.Fault == nil {
		return nil
	}
	return f.Fault(step, path)
}

// split finds the allowed folder that path is in and path relative to it.
func (f FS) split(path string) (folder, rel string, err error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return "", "", fmt.Errorf("%s: %w: it is not an absolute, clean path", path, ErrNotAllowed)
	}
	if len(f.Allow) == 0 {
		return filepath.Dir(path), filepath.Base(path), nil
	}
	for _, a := range f.Allow {
		a = filepath.Clean(a)
		if rel, ok := strings.CutPrefix(path, a+"/"); ok {
			return a, rel, nil
		}
	}
	return "", "", fmt.Errorf("%s: %w (%s)", path, ErrNotAllowed, strings.Join(f.Allow, ", "))
}

// handle is an allowed folder held open, and a path in it. os.Root resolves every
// operation inside the folder, so a link that leads out fails even when it is
// planted between a check and its use.
type handle struct {
	*os.Root
	rel string
}

func (f FS) open(path string, create bool) (*handle, error) {
	folder, rel, err := f.split(path)
	if err != nil {
		return nil, err
	}
	if create {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	h := &handle{Root: root, rel: rel}
	if dir := filepath.Dir(rel); create && dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}
	return h, nil
}

func (h *handle) syncFolder() error {
	d, err := h.Open(filepath.Dir(h.rel))
	if err != nil {
		return fmt.Errorf("sync folder of %s: %w", h.rel, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder of %s: %w", h.rel, err)
	}
	return nil
}
