package scratch

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/disk"
	"github.com/pgctrl/pgctrl/pkg/host/pgbackrest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/wal"
)

// fetched is what the first stage found, for the second.
type fetched struct {
	// Size is the data's in bytes, Seconds how long the copying took.
	Size    int64   `json:"size"`
	Seconds float64 `json:"seconds"`
	// Gap is the first segment, or history of a timeline, that the archive has not although it has
	// later segments, up to Last.
	Gap  string `json:"gap,omitempty"`
	Last string `json:"last,omitempty"`
}

// lacks says what is missing.
func (f fetched) lacks() string {
	what := "segment "
	if _, is := wal.History(f.Gap); is {
		what = ""
	}
	return fmt.Sprintf("the archive has no %s%s, although it has later ones up to %s", what, f.Gap, f.Last)
}

// What the stages are at.
const (
	copying    = "copying"
	fetching   = "fetching WAL"
	recovering = "recovering"
	reading    = "reading every page"
)

// fetch copies the backup and, for an offline recovery, all WAL since then.
func (s *stage) fetch(ctx context.Context) error {
	began := time.Now()
	s.say(nil, "looking at the repository")
	out, err := s.backrest(ctx, "read the backup repository", nil, "--set="+s.Backup, "--output=json", "info")
	if err != nil {
		return err
	}
	set, err := pgbackrest.ParseSet(out, s.Cluster, s.Backup)
	if err != nil {
		return &plan.Refusal{Reason: observed.RecoveryFailed, Message: err.Error(), Next: "pgctrl backup list " + s.Cluster}
	}
	if len(set.Tablespaces) > 0 {
		return &plan.Refusal{Reason: observed.Unsupported, Next: "pgctrl backup list " + s.Cluster, Message: fmt.Sprintf(
			"backup %s has tablespaces (%s), whose folders are not mapped; a database with tablespaces can't be restored beside its cluster", s.Backup, strings.Join(set.Tablespaces, ", "))}
	}
	if out, err = s.backrest(ctx, "list the archive", nil, "--recurse", "repo-ls", "archive/"+s.Cluster+"/"+set.Archive); err != nil {
		return err
	}
	has := list(out, set.FirstWAL)
	total := set.Size
	if s.Offline {
		total += int64(len(has.Segments)) * defaultSegment
	}
	if err := s.room(total); err != nil {
		return err
	}
	if err := os.Mkdir(s.data(), 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if _, err := s.backrest(ctx, "restore backup "+s.Backup, s.copied(set.Size, total), "--pg1-path="+s.data(), "--set="+s.Backup, "--type=none", "restore"); err != nil {
		return err
	}
	c, err := s.controldata(ctx)
	if err != nil {
		return err
	}
	if err := os.Mkdir(s.wal(), 0o700); err != nil {
		return fmt.Errorf("make the folder for WAL: %w", err)
	}
	var history []wal.Switch
	if newest := has.NewestHistory(); newest > 0 {
		if history, err = s.history(ctx, wal.HistoryName(newest)); err != nil {
			return err
		}
	}
	f := fetched{Size: set.Size}
	f.Gap, f.Last = has.missing(set.FirstWAL, history, c.segment())
	if f.Gap != "" && s.Target.Type == plan.TargetLatest {
		return &plan.Refusal{Reason: observed.RecoveryFailed, Next: "pgctrl backup " + s.Cluster + " --type full", Message: fmt.Sprintf(
			"%s: from backup %s nothing after it can be recovered", f.lacks(), s.Backup)}
	}
	if s.Offline {
		if err := s.segments(ctx, append(has.Histories, has.Segments...), set.Size, total); err != nil {
			return err
		}
	}
	f.Seconds = time.Since(began).Seconds()
	return writeWhole(s.file(fetchedFile), f)
}

// room refuses what there is not enough of, before anything is copied: a tenth more is for
// what recovery writes.
func (s *stage) room(need int64) error {
	need += need / 10
	r, err := disk.Of(s.Dir)
	if err != nil {
		return err
	}
	if uint64(need) <= r.Free {
		return nil
	}
	return &plan.Refusal{Reason: observed.NoRoom, Next: "df -h " + s.Dir + " (on " + s.Node + ")", Message: fmt.Sprintf(
		"a restore of backup %s needs %s in %s, with a tenth more than it copies, and there are %s", s.Backup, amount(need), s.Dir, amount(int64(r.Free)))}
}

func amount(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// restoredFile is what pgBackRest says of each file, with how much of all is there by now.
var restoredFile = regexp.MustCompile(`restore file .*, ([0-9]+)\.([0-9]{2})%\)`)

// copied follows a restore by what pgBackRest says.
func (s *stage) copied(size, total int64) func(string) {
	return func(line string) {
		m := restoredFile.FindStringSubmatch(line)
		if m == nil {
			return
		}
		whole, err := strconv.ParseInt(m[1], 10, 64)
		part, err2 := strconv.ParseInt(m[2], 10, 64)
		if err == nil && err2 == nil {
			s.say(&observed.Progress{Done: min(size, size/10000*(whole*100+part)), Total: total, Unit: "B"}, copying)
		}
	}
}

// get takes one file out of the archive.
func (s *stage) get(ctx context.Context, name string) error {
	_, err := s.backrest(ctx, "fetch "+name, nil, "--pg1-path="+s.data(), "--no-archive-async", "archive-get", name, s.wal()+"/"+name)
	return err
}

// history reads the history of a timeline.
func (s *stage) history(ctx context.Context, name string) ([]wal.Switch, error) {
	if err := s.get(ctx, name); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(s.wal() + "/" + name)
	if err != nil {
		return nil, err
	}
	return wal.ParseHistory(string(b))
}

// segments fetches the archive, some at once.
func (s *stage) segments(ctx context.Context, names []string, done, total int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan string)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range min(4, max(2, runtime.NumCPU()/2)) {
		wg.Go(func() {
			for name := range todo {
				err := s.get(ctx, name)
				mu.Lock()
				if err != nil {
					cancel(err)
				} else if done += defaultSegment; true {
					s.say(&observed.Progress{Done: min(done, total), Total: total, Unit: "B"}, fetching)
				}
				mu.Unlock()
			}
		})
	}
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		todo <- name
	}
	close(todo)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
