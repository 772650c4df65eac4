package pgbackrest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// finished are the names of what PostgreSQL archives: segments, the last one of a timeline,
// histories of timelines, where a backup began.
var finished = regexp.MustCompile(`^(?:[0-9A-F]{24}(?:\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history)$`)

// Left sends what a member finished when it led and had not archived when it became a
// replica: PostgreSQL archives nothing there, and removes WAL that the replica needs no more.
// It returns how much still waits. Patroni does the same before it runs pg_rewind.
func (d *Driver) Left(ctx context.Context, cluster string) (waits int, err error) {
	c, err := readConfig(cluster)
	if err != nil {
		return 0, err
	}
	wal := filepath.Join(c.get(cluster, "pg1-path", ""), "pg_wal")
	names, err := ready(wal)
	for i, name := range names {
		if _, err := d.run(ctx, "archive what waits", cluster, "archive-push", filepath.Join(wal, name)); err != nil {
			return len(names) - i, err
		}
		if err := archived(wal, name); err != nil {
			return len(names) - i, err
		}
	}
	return 0, err
}

// ready are the finished files that wait, the oldest first, as far as they are there.
func ready(wal string) (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(wal, "archive_status"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no data yet
	}
	for _, e := range entries {
		name, waits := strings.CutSuffix(e.Name(), ".ready")
		if !waits || !finished.MatchString(name) {
			continue
		}
		if info, err := os.Lstat(filepath.Join(wal, name)); err == nil && info.Mode().IsRegular() {
			names = append(names, name)
		}
	}
	return names, err
}

// archived notes that a file is, as PostgreSQL's archiver does. The folder is its user's, so
// nothing outside of it is touched by whatever it has made of it.
func archived(wal, name string) error {
	root, err := os.OpenRoot(filepath.Join(wal, "archive_status"))
	if err != nil {
		return fmt.Errorf("note that %s is archived: %w", name, err)
	}
	defer root.Close()
	if err := root.Rename(name+".ready", name+".done"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note that %s is archived: %w", name, err)
	}
	return nil
}
