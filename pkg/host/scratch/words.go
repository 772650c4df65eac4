package scratch

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// said is what PostgreSQL wrote about its recovery.
type said struct {
	// restored is the last segment that it took from the archive, and lsn and at are where and
	// when what it replayed ends.
	restored, lsn string
	at            time.Time
	// fatal is its last word of that kind, and absent the last file that was not there.
	fatal, absent string
	// unreached: the end came before the target.
	unreached bool
}

var (
	restoredLine = regexp.MustCompile(`^LOG:  restored log file "([0-9A-F]{24})" from archive`)
	redoneLine   = regexp.MustCompile(`^LOG:  redo done at ([0-9A-F]+/[0-9A-F]+)`)
	lastLine     = regexp.MustCompile(`^LOG:  last completed transaction was at log time (.+)$`)
	fatalLine    = regexp.MustCompile(`^(FATAL|PANIC):  (.+)$`)
	absentLine   = regexp.MustCompile(`^cp: cannot stat '[^']*/([0-9A-F]{24})'`)
)

// hear takes one line.
func (s *said) hear(line string) {
	if m := restoredLine.FindStringSubmatch(line); m != nil {
		s.restored = m[1]
	} else if m := redoneLine.FindStringSubmatch(line); m != nil {
		s.lsn = m[1]
	} else if m := lastLine.FindStringSubmatch(line); m != nil {
		s.at, _ = time.Parse("2006-01-02 15:04:05.999999-07", m[1])
	} else if m := absentLine.FindStringSubmatch(line); m != nil {
		s.absent = m[1]
	} else if m := fatalLine.FindStringSubmatch(line); m != nil && !strings.HasPrefix(m[2], "the database system is ") {
		s.fatal = m[2]
		s.unreached = s.unreached || strings.Contains(m[2], "before configured recovery target was reached")
	}
}

// failure is why a recovery ended before its time.
func (s *said) failure(j job, f fetched) error {
	r := &plan.Refusal{Reason: observed.RecoveryFailed, Next: fmt.Sprintf("journalctl -n 60 -u %s (on %s)", plan.ScratchUnit(j.Cluster), j.Node)}
	switch {
	case s.unreached && f.Gap != "":
		r.Message = fmt.Sprintf("%s; recovery ended there, before the target (%s)", f.lacks(), j.target())
	case s.unreached:
		r.Message = fmt.Sprintf("the archive ends before the target (%s)", j.target())
	case s.fatal != "":
		r.Message = "PostgreSQL says: " + s.fatal
	default:
		r.Message = "PostgreSQL ended and did not say why"
	}
	if !s.at.IsZero() {
		r.Message += "; the last transaction that can be had is of " + s.at.UTC().Format("2006-01-02 15:04:05.999999 UTC")
	} else if s.unreached && s.lsn != "" {
		r.Message += "; what can be had ends at " + s.lsn + ", with no transaction since the backup"
	}
	return r
}

func (o Order) target() string {
	if o.Target.Value == "" {
		return o.Target.Type
	}
	return o.Target.Type + " " + o.Target.Value
}
