package pgbackrest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/wal"
)

// findGaps says which WAL the archive lacks. What waits on this host counts as archived: it is
// on its way, and ArchiveFailing is said of what stays so. It is looked at first, or what
// is sent in between would be in neither place.
func (d *Driver) findGaps(ctx context.Context, c config, cluster, place string, r *observed.Repository) error {
	folder := filepath.Join(c.get(cluster, "pg1-path", ""), "pg_wal")
	a := &wal.Archive{}
	waits, err := ready(folder)
	if err != nil {
		return fmt.Errorf("look for WAL that waits: %w", err)
	}
	for _, name := range waits {
		a.Add(name, time.Time{})
	}
	if err := d.list(ctx, a, cluster, place); err != nil {
		return err
	}
	history, err := d.history(ctx, a, folder, cluster, place)
	if err != nil {
		return err
	}
	q := wal.Query{History: history, SegmentSize: segmentSize(folder)}
	for _, b := range r.Backups {
		q.Starts = append(q.Starts, b.FirstWAL)
	}
	r.Gaps = a.Gaps(q)
	r.MoreGaps = max(0, len(r.Gaps)-observed.MaxGaps)
	r.Gaps = r.Gaps[r.MoreGaps:]
	return nil
}

// list adds what the archive of a database has. A listing of a year is some hundred MB, so it is
// read as it comes.
func (d *Driver) list(ctx context.Context, a *wal.Archive, cluster, place string) error {
	const what = "list the archive"
	from, to := io.Pipe()
	read := make(chan error, 1)
	go func() {
		err := readListing(from, a.Add)
		_ = from.CloseWithError(err) // pgBackRest is not to wait for a reader that is gone; it never fails
		read <- err
	}()
	err := d.runInto(ctx, to, what, cluster, "--output=json", "--recurse", "repo-ls", "archive/"+cluster+"/"+place)
	_ = to.Close() // never fails
	if bad := <-read; err == nil && bad != nil {
		err = fmt.Errorf("%s: %w", what, bad)
	}
	return err
}

// readListing reads what "repo-ls --output=json" prints: one object, by path.
func readListing(from io.Reader, add func(path string, at time.Time)) error {
	d := json.NewDecoder(from)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errors.New("pgBackRest printed no listing"), err)
	}
	for d.More() {
		path, err := d.Token()
		if err != nil {
			return err
		}
		var e struct {
			Type string `json:"type"`
			Time int64  `json:"time"`
		}
		if err := d.Decode(&e); err != nil {
			return err
		}
		if name, is := path.(string); is && e.Type == "file" {
			add(name, time.Unix(e.Time, 0).UTC())
		}
	}
	_, err := d.Token()
	return err
}

// history is where the newest timeline comes from: as the archive has it, or this host while
// that file waits.
func (d *Driver) history(ctx context.Context, a *wal.Archive, folder, cluster, place string) ([]wal.Switch, error) {
	tl := a.NewestHistory()
	if tl == 0 {
		return nil, nil
	}
	name := wal.HistoryName(tl)
	text, err := d.run(ctx, "read the history of timeline "+fmt.Sprint(tl), cluster, "repo-get", "archive/"+cluster+"/"+place+"/"+name)
	if err != nil {
		waits, has := readForeign(filepath.Join(folder, name))
		if !has {
			return nil, err
		}
		text = waits
	}
	return wal.ParseHistory(string(text))
}

// plainSegment is a segment as PostgreSQL has it.
var plainSegment = regexp.MustCompile(`^[0-9A-F]{24}$`)

// segmentSize is that of any segment on this host; they all have the same. 0: there is none.
func segmentSize(folder string) int64 {
	dir, err := os.Open(folder)
	if err != nil {
		return 0
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(64)
		for _, e := range entries {
			if !plainSegment.MatchString(e.Name()) || !e.Type().IsRegular() {
				continue
			}
			if info, err := e.Info(); err == nil {
				return info.Size()
			}
		}
		if err != nil {
			return 0
		}
	}
}

// dropped is pgBackRest's word beside a segment that it says is archived, and is not.
var dropped = []byte("dropped WAL file")

// Dropped is the newest segment that archiving dropped because more waited than
// archive_queue_max, as far as it still says so; empty: none.
func (d *Driver) Dropped(cluster string) string {
	c, err := readConfig(cluster)
	if err != nil {
		return ""
	}
	return droppedIn(c.spool(cluster))
}

func droppedIn(dir string) string {
	files, _ := filepath.Glob(dir + "/*.ok") // the pattern is good
	slices.Sort(files)
	for _, f := range slices.Backward(files) {
		if info, err := os.Lstat(f); err != nil || info.Size() == 0 {
			continue // what was archived without a word
		}
		if b, ok := readForeign(f); ok && bytes.Contains(b, dropped) {
			return strings.TrimSuffix(filepath.Base(f), ".ok")
		}
	}
	return ""
}
