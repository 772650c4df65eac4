package pgbackrest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// stepAnnotation is where a backup says which step asked for it.
const stepAnnotation = "pgctrl-step"

// fromAnnotation is where it says from which member its files were copied.
const fromAnnotation = "pgctrl-from"

// The codes of "info" that matter here: a repository with no such stanza is none with an
// error, and the last one is whatever else went wrong with the repository.
const (
	infoOther = 99
)

// infoStanza is one stanza in what "info --output=json" prints, as far as it is used.
type infoStanza struct {
	Name    string `json:"name"`
	Archive []struct {
		Database infoRef `json:"database"`
		ID       string  `json:"id"`
		Min      string  `json:"min"`
		Max      string  `json:"max"`
	} `json:"archive"`
	Backup []infoBackup `json:"backup"`
	DB     []struct {
		ID      int         `json:"id"`
		RepoKey int         `json:"repo-key"`
		System  json.Number `json:"system-id"`
	} `json:"db"`
	Repo []struct {
		Status infoStatus `json:"status"`
	} `json:"repo"`
	Status infoStatus `json:"status"`
}

type infoStatus struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// infoRef names a database of the stanza; the same number may mean another one in another
// repository.
type infoRef struct {
	ID      int `json:"id"`
	RepoKey int `json:"repo-key"`
}

type infoBackup struct {
	Annotation map[string]string `json:"annotation"`
	Archive    struct {
		Start string `json:"start"`
		Stop  string `json:"stop"`
	} `json:"archive"`
	Database infoRef `json:"database"`
	Error    bool    `json:"error"`
	Info     struct {
		Size       int64 `json:"size"`
		Delta      int64 `json:"delta"`
		Repository struct {
			Delta int64 `json:"delta"`
		} `json:"repository"`
	} `json:"info"`
	Label string `json:"label"`
	LSN   struct {
		Stop string `json:"stop"`
	} `json:"lsn"`
	Prior     string `json:"prior"`
	Timestamp struct {
		Start int64 `json:"start"`
		Stop  int64 `json:"stop"`
	} `json:"timestamp"`
	Type string `json:"type"`
}

// errUnreadable: pgBackRest could not read the repository and said so in its answer.
var errUnreadable = errors.New("pgBackRest can't read the repository")

// parseInfo is what a repository holds of the database with a system identifier.
func parseInfo(out []byte, stanza, system string) (*observed.Repository, error) {
	r, _, err := parseInfoAndPlace(out, stanza, system)
	return r, err
}

// parseInfoAndPlace also says which folder of the archive is that database's, as in 15-1; empty:
// there is none.
func parseInfoAndPlace(out []byte, stanza, system string) (r *observed.Repository, place string, err error) {
	var all []infoStanza
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, "", fmt.Errorf("read what pgbackrest info says: %w", err)
	}
	i := slices.IndexFunc(all, func(s infoStanza) bool { return s.Name == stanza })
	if i < 0 {
		return &observed.Repository{}, "", nil
	}
	s := all[i]
	if why, bad := s.unreadable(); bad {
		return nil, "", fmt.Errorf("%w: %s", errUnreadable, why)
	}
	ours, current := map[infoRef]bool{}, map[int]int{}
	for _, db := range s.DB {
		current[db.RepoKey] = max(current[db.RepoKey], db.ID)
	}
	r = &observed.Repository{}
	for _, db := range s.DB {
		if db.System.String() != system || system == "" {
			continue
		}
		ours[infoRef{db.ID, db.RepoKey}] = true
		r.Stanza = r.Stanza || current[db.RepoKey] == db.ID // an older one is what there was before
	}
	for _, a := range s.Archive {
		if !ours[a.Database] {
			continue
		}
		if a.Min != "" && (r.FirstWAL == "" || a.Min < r.FirstWAL) {
			r.FirstWAL = a.Min
		}
		r.LastWAL = max(r.LastWAL, a.Max)
		place = a.ID // the newest comes last
	}
	for _, b := range s.Backup {
		if ours[b.Database] {
			r.Backups = append(r.Backups, b.observed())
		}
	}
	slices.SortStableFunc(r.Backups, func(a, b observed.Backup) int {
		return cmp.Or(a.Stopped.Compare(b.Stopped), strings.Compare(a.Label, b.Label))
	})
	r.Backups = newest(r.Backups, observed.MaxBackups)
	return r, place, nil
}

// newest are at most so many backups, of which what others build on goes last: without the
// newest full one in it, a list of a week of hourly backups would call for another full one.
// The newest of all stays.
func newest(all []observed.Backup, most int) []observed.Backup {
	for _, kind := range []string{"incr", "diff", "full"} {
		over, last := len(all)-most, len(all)-1
		kept := make([]observed.Backup, 0, len(all))
		for i, b := range all {
			if over > 0 && b.Type == kind && i != last {
				over--
				continue
			}
			kept = append(kept, b)
		}
		all = kept
	}
	return all[max(0, len(all)-most):]
}

// unreadable is why the answer says nothing about what the repository holds.
func (s infoStanza) unreadable() (string, bool) {
	for _, repo := range s.Repo {
		if repo.Status.Code == infoOther {
			return firstLine(repo.Status.Message), true
		}
	}
	return firstLine(s.Status.Message), s.Status.Code == infoOther
}

func (b infoBackup) observed() observed.Backup {
	return observed.Backup{
		Label: b.Label, Type: b.Type, Prior: b.Prior,
		Started: time.Unix(b.Timestamp.Start, 0).UTC(), Stopped: time.Unix(b.Timestamp.Stop, 0).UTC(),
		FirstWAL: b.Archive.Start, LastWAL: b.Archive.Stop, StopLSN: b.LSN.Stop,
		Size: b.Info.Size, Copied: b.Info.Delta, Stored: b.Info.Repository.Delta,
		Damaged: b.Error, Step: b.Annotation[stepAnnotation], From: b.Annotation[fromAnnotation],
	}
}

// lockFile is what pgBackRest keeps in the lock of a backup under way: 2.45 hundredths of a
// percent, later ones bytes as well.
type lockFile struct {
	Percent  *int64 `json:"pctCplt"`
	Size     *int64 `json:"size"`
	Complete *int64 `json:"sizeCplt"`
}

// parseLock is how far a backup is; nil: it does not say yet.
func parseLock(b []byte) *observed.Progress {
	var l lockFile
	// A version before 2.41 wrote two lines of text, and a file that is being written is not
	// whole; neither says anything.
	if json.Unmarshal(b, &l) != nil {
		return nil
	}
	switch {
	case l.Size != nil && l.Complete != nil && *l.Size > 0:
		return &observed.Progress{Done: min(max(*l.Complete, 0), *l.Size), Total: *l.Size, Unit: "B"}
	case l.Percent != nil:
		return &observed.Progress{Done: min(max(*l.Percent/100, 0), 100), Total: 100, Unit: "%"}
	}
	return nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(s)
}

// checkStep takes a name for the command line that has nothing but what names of steps have.
func checkStep(step string) (string, error) {
	for _, c := range step {
		if !(c == '-' || c == '.' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return "", fmt.Errorf("start a backup: %s is no step's name", strconv.Quote(step))
		}
	}
	if step == "" {
		return "", errors.New("start a backup: it needs a step's name")
	}
	return step, nil
}
