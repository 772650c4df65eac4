package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// Saved is one file as it was, or that there was none. It may hold passwords: who
// stores it, stores it with mode 0600.
type Saved struct {
	Path    string      `json:"path"`
	Absent  bool        `json:"absent,omitempty"`
	Link    string      `json:"link,omitempty"` // where a symbolic link pointed
	Mode    fs.FileMode `json:"mode,omitempty"`
	UID     int         `json:"uid"`
	GID     int         `json:"gid"`
	Content []byte      `json:"content,omitempty"`
}

// Snapshot is a set of files as they were.
type Snapshot []Saved

// Find returns the saved state of one path.
func (s Snapshot) Find(path string) (Saved, bool) {
	for _, e := range s {
		if e.Path == path {
			return e, true
		}
	}
	return Saved{}, false
}

// Snapshot records the paths as they are now.
func (f FS) Snapshot(paths ...string) (Snapshot, error) {
	out := make(Snapshot, 0, len(paths))
	for _, p := range paths {
		s, err := f.save(p)
		if err != nil {
			return nil, fmt.Errorf("save %s: %w", p, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func (f FS) save(path string) (Saved, error) {
	root, err := f.open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return Saved{Path: path, Absent: true}, nil
	}
	if err != nil {
		return Saved{}, err
	}
	defer root.Close()
	info, err := root.Lstat(root.rel)
	if errors.Is(err, fs.ErrNotExist) {
		return Saved{Path: path, Absent: true}, nil
	}
	if err != nil {
		return Saved{}, err
	}
	s := Saved{Path: path, Mode: info.Mode().Perm()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.UID, s.GID = int(st.Uid), int(st.Gid)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		s.Link, err = root.Readlink(root.rel)
	case info.Mode().IsRegular():
		s.Content, err = root.ReadFile(root.rel)
	default:
		err = fmt.Errorf("it is %s and not a file", info.Mode().Type())
	}
	return s, err
}

// Restore puts every file of the snapshot back as it was: content, mode, owner,
// absence. Files that are so already are not touched. It goes on after an error
// and returns all of them.
func (f FS) Restore(s Snapshot) error {
	var errs []error
	for _, e := range s {
		errs = append(errs, f.restore(e))
	}
	return errors.Join(errs...)
}

func (f FS) restore(e Saved) error {
	now, err := f.save(e.Path)
	if err == nil && now.equal(e) {
		return nil
	}
	switch {
	case e.Absent:
		return f.Remove(e.Path)
	case e.Link != "":
		return f.restoreLink(e)
	}
	p, err := f.prepare(e.Path, e.Content, e.Mode, owner{e.UID, e.GID})
	if err != nil {
		return err
	}
	return p.Commit()
}

func (f FS) restoreLink(e Saved) error {
	root, err := f.open(e.Path, true)
	if err != nil {
		return fmt.Errorf("restore link %s: %w", e.Path, err)
	}
	defer root.Close()
	staged := stageName(root.rel)
	if err := root.Symlink(e.Link, staged); err != nil {
		return fmt.Errorf("restore link %s: %w", e.Path, err)
	}
	if err := root.Rename(staged, root.rel); err != nil {
		return errors.Join(fmt.Errorf("restore link %s: %w", e.Path, err), root.Remove(staged))
	}
	return root.syncFolder()
}

func (s Saved) equal(o Saved) bool {
	return s.Absent == o.Absent && s.Link == o.Link && s.Mode == o.Mode &&
		s.UID == o.UID && s.GID == o.GID && bytes.Equal(s.Content, o.Content)
}

// Difference says what of a file is not as wanted, in a few words; empty when it
// is so already.
type Difference struct {
	Missing, Content, Mode, Owner bool
}

// Any reports whether anything differs.
func (d Difference) Any() bool { return d != Difference{} }

// String names what differs, as in "content and mode differ".
func (d Difference) String() string {
	if d.Missing {
		return "is missing"
	}
	var parts []string
	for _, p := range []struct {
		is   bool
		name string
	}{{d.Content, "content"}, {d.Mode, "mode"}, {d.Owner, "owner"}} {
		if p.is {
			parts = append(parts, p.name)
		}
	}
	switch len(parts) {
	case 0:
		return ""
	case 1:
		return parts[0] + " differs"
	default:
		return strings.Join(parts, " and ") + " differ"
	}
}

// Want describes a file as it should be, in the form of one that was saved.
func Want(path string, content []byte, mode fs.FileMode, ownerName string) (Saved, error) {
	o, err := lookup(ownerName)
	if err != nil {
		return Saved{}, fmt.Errorf("describe %s: %w", path, err)
	}
	return Saved{Path: path, Mode: mode, UID: o.uid, GID: o.gid, Content: content}, nil
}

// PrepareSaved writes a file of a snapshot beside its path, ready to replace it.
func (f FS) PrepareSaved(s Saved) (*Pending, error) {
	if s.Absent || s.Link != "" {
		return nil, fmt.Errorf("write %s: only a file with content can be prepared", s.Path)
	}
	return f.prepare(s.Path, s.Content, s.Mode, owner{s.UID, s.GID})
}

// Compare compares a file with what it should be. A symbolic link is never the
// same: what it points at may be changed by others.
func (f FS) Compare(want Saved) (Difference, error) {
	now, err := f.save(want.Path)
	if err != nil {
		return Difference{}, fmt.Errorf("compare %s: %w", want.Path, err)
	}
	if now.Absent {
		return Difference{Missing: true}, nil
	}
	return Difference{
		Content: now.Link != "" || !bytes.Equal(now.Content, want.Content),
		Mode:    now.Mode != want.Mode,
		Owner:   now.UID != want.UID || now.GID != want.GID,
	}, nil
}

// Same compares a file with what it should be, anywhere.
func Same(path string, content []byte, mode fs.FileMode, owner string) (Difference, error) {
	want, err := Want(path, content, mode, owner)
	if err != nil {
		return Difference{}, err
	}
	return FS{}.Compare(want)
}
