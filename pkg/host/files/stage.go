package files

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// stageMark is in the name of every staged file. The leading dot keeps programs
// that read whole folders (dnsmasq) from reading it.
const stageMark = ".pgctrl-stage-"

// Pending is a file that is written, synced and one rename away. Preparing all
// files of a set before committing the first makes a full disk show itself while
// nothing has changed yet.
type Pending struct {
	fs     FS
	path   string
	root   *handle
	staged string
}

// Prepare writes content beside path, ready to replace it.
func (f FS) Prepare(path string, content []byte, mode fs.FileMode, ownerName string) (*Pending, error) {
	o, err := lookup(ownerName)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return f.prepare(path, content, mode, o)
}

func (f FS) prepare(path string, content []byte, mode fs.FileMode, o owner) (*Pending, error) {
	root, err := f.open(path, true)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	p := &Pending{fs: f, path: path, root: root, staged: stageName(root.rel)}
	if err := p.write(content, mode, o); err != nil {
		p.Discard()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return p, nil
}

func stageName(rel string) string {
	dir, base := filepath.Split(rel)
	return dir + "." + base + stageMark + strconv.FormatUint(rand.Uint64(), 36)
}

func (p *Pending) write(content []byte, mode fs.FileMode, o owner) error {
	if err := p.fs.fault("create", p.path); err != nil {
		return err
	}
	// Nobody else may read it before it has its owner: it may hold a password.
	file, err := p.root.OpenFile(p.staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close() // after an error; the second Close below is the one that counts
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"write", func() error { _, err := file.Write(content); return err }},
		{"chown", func() error { return file.Chown(o.uid, o.gid) }},
		{"chmod", func() error { return file.Chmod(mode) }},
		{"sync", file.Sync},
		{"close", file.Close},
	} {
		if err := p.fs.fault(s.name, p.path); err != nil {
			return err
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// Commit renames the staged file into place. A Pending is used up afterwards.
func (p *Pending) Commit() error {
	defer p.Discard()
	if err := p.fs.fault("rename", p.path); err != nil {
		return fmt.Errorf("write %s: %w", p.path, err)
	}
	if err := p.root.Rename(p.staged, p.root.rel); err != nil {
		return fmt.Errorf("write %s: %w", p.path, err)
	}
	if err := p.fs.fault("sync folder", p.path); err != nil {
		return fmt.Errorf("write %s: %w", p.path, err)
	}
	return p.root.syncFolder()
}

// Discard removes the staged file. It may be called at any time, also twice.
func (p *Pending) Discard() {
	if p == nil || p.root == nil {
		return
	}
	// Nothing to tell anybody: after a rename it is gone already, and a file that
	// can't be removed is swept before the next write of this path.
	_ = p.root.Remove(p.staged)
	_ = p.root.Close()
	p.root = nil
}

// Sweep removes what killed writers of path left beside it. Only for a caller
// who knows that nobody else is writing path now.
func (f FS) Sweep(path string) error {
	root, err := f.open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep %s: %w", path, err)
	}
	defer root.Close()
	dir, base := filepath.Split(root.rel)
	entries, err := fs.ReadDir(root.FS(), filepath.Clean(dir+"."))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep %s: %w", path, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+base+stageMark) {
			if err := root.Remove(dir + e.Name()); err != nil {
				return fmt.Errorf("sweep %s: %w", path, err)
			}
		}
	}
	return nil
}
