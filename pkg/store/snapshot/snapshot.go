// Package snapshot keeps copies of a store on disk: made from a running etcd,
// verified by the hash that etcd puts at their end, atomic, and bounded in number.
// They are what etcdctl makes, so either can restore the other's.
package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ErrDamaged means that a snapshot is not what etcd sent.
var ErrDamaged = errors.New("the snapshot is damaged")

// Source opens a stream of a store's whole content, followed by its SHA-256.
type Source func(ctx context.Context) (io.ReadCloser, error)

// Save writes a snapshot to path, verifies it and only then gives it its name; what
// is there stays until then. It returns the size in bytes.
func Save(ctx context.Context, source Source, path string) (size int64, err error) {
	r, err := source(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask etcd for a snapshot: %w", err)
	}
	defer r.Close()
	f, err := os.CreateTemp(filepath.Dir(path), unfinished+"*") // mode 0600: every secret is in there
	if err != nil {
		return 0, fmt.Errorf("write snapshot %s: %w", path, err)
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name()) // it has another name when all went well
	}()
	if size, err = io.Copy(f, r); err != nil {
		return 0, fmt.Errorf("write snapshot %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("write snapshot %s: %w", path, err)
	}
	if _, err := Verify(f.Name()); err != nil {
		return 0, fmt.Errorf("write snapshot %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return 0, fmt.Errorf("write snapshot %s: %w", path, err)
	}
	return size, syncDir(filepath.Dir(path))
}

// Verify compares a snapshot with its hash and returns the size of the database.
func Verify(path string) (size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read snapshot: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read snapshot: %w", err)
	}
	// A database is whole pages of at least 512 bytes; what is over is the hash.
	if size = st.Size() - sha256.Size; size <= 0 || size%512 != 0 {
		return 0, fmt.Errorf("read snapshot %s of %d bytes: %w: it has no hash at its end", path, st.Size(), ErrDamaged)
	}
	h := sha256.New()
	if _, err := io.CopyN(h, f, size); err != nil {
		return 0, fmt.Errorf("read snapshot %s: %w", path, err)
	}
	want, err := io.ReadAll(f)
	if err != nil {
		return 0, fmt.Errorf("read snapshot %s: %w", path, err)
	}
	if !slices.Equal(h.Sum(nil), want) {
		return 0, fmt.Errorf("read snapshot %s: %w: its hash does not match", path, ErrDamaged)
	}
	return size, nil
}

// Extract copies the database of a verified snapshot, without the hash.
func Extract(path, to string) error {
	size, err := Verify(path)
	if err != nil {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("copy snapshot: %w", err)
	}
	defer out.Close()
	if _, err := io.CopyN(out, in, size); err != nil {
		return fmt.Errorf("copy snapshot: %w", err)
	}
	if err := out.Sync(); err != nil {
		return fmt.Errorf("copy snapshot: %w", err)
	}
	return nil
}

// The names of kept snapshots sort by age.
const (
	prefix     = "etcd-"
	suffix     = ".snapshot"
	stamp      = "20060102T150405Z"
	unfinished = ".unfinished-"
)

// Keep makes one more snapshot in a folder and removes the oldest beyond keep. When
// it fails, as on a full disk, the ones that are there all stay.
func Keep(ctx context.Context, source Source, dir string, keep int, now time.Time) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make folder of snapshots: %w", err)
	}
	clean(dir)
	path = filepath.Join(dir, prefix+now.UTC().Format(stamp)+suffix)
	if _, err := Save(ctx, source, path); err != nil {
		return "", err
	}
	all, err := List(dir)
	if err != nil {
		return path, err
	}
	for _, old := range all[min(keep, len(all)):] {
		if err := os.Remove(old.Path); err != nil {
			return path, fmt.Errorf("remove old snapshot: %w", err)
		}
	}
	return path, nil
}

// clean removes what a kill left half-written.
func clean(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, unfinished+"*"))
	for _, f := range left {
		_ = os.Remove(f) // it is in nobody's way
	}
}

// File is a kept snapshot.
type File struct {
	Path  string
	Taken time.Time
	Size  int64
}

// List returns the kept snapshots of a folder, the newest first. One that does not
// exist holds none.
func List(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var out []File
	for _, e := range slices.Backward(entries) {
		name, ours := strings.CutPrefix(e.Name(), prefix)
		name, whole := strings.CutSuffix(name, suffix)
		taken, err := time.Parse(stamp, name)
		if !ours || !whole || err != nil {
			continue
		}
		f := File{Path: filepath.Join(dir, e.Name()), Taken: taken}
		if st, err := e.Info(); err == nil {
			f.Size = st.Size()
		}
		out = append(out, f)
	}
	return out, nil
}

// Taken is when a snapshot was made: its name says so, or else its file's time.
func Taken(path string) time.Time {
	name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), prefix), suffix)
	if t, err := time.Parse(stamp, name); err == nil {
		return t
	}
	if st, err := os.Stat(path); err == nil {
		return st.ModTime()
	}
	return time.Time{}
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
