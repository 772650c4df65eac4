package pgbackrest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The bounds of short commands. An object store that drops packets answers nothing for
// minutes; pgBackRest's own bound (io-timeout, 60 s, and tries again) is longer than anybody
// waits for.
const (
	infoWithin   = time.Minute
	stanzaWithin = 2 * time.Minute
	// listWithin bounds the listing of an archive: 20,000 segments take 0.9 s in a folder, and
	// an object store answers a thousand at a time.
	listWithin = 2 * time.Minute
	// settingsWithin is how long PostgreSQL may take to have the archive command that was
	// planned: Patroni hands a change on within its loop_wait, 10 s, and a start takes as long.
	settingsWithin = 45 * time.Second
	// segmentWithin bounds how long one segment may take to the archive, as pgBackRest's own
	// archive-timeout does.
	segmentWithin = time.Minute
	// lookEvery is how often PostgreSQL is asked while somebody waits for it.
	lookEvery = 250 * time.Millisecond
)

// Systemd is what a backup's unit needs of it.
type Systemd interface {
	StartTransient(ctx context.Context, t systemd.Transient) error
	Status(ctx context.Context, unit string) (systemd.State, error)
	Stop(ctx context.Context, unit string) error
	Forget(ctx context.Context, unit string)
	Feed(ctx context.Context, unit string) error
	Journal(ctx context.Context, unit string, lines int) string
}

// Options are all settings of a Driver.
type Options struct {
	// Node is this host's name, for messages.
	Node    string
	Systemd Systemd
	Log     *zap.Logger
	// User is whom pgBackRest runs as, postgres when empty; Binary the program.
	User, Binary string
}

// Driver is pgBackRest on this host.
type Driver struct{ o Options }

// New returns a Driver.
func New(o Options) *Driver {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.User == "" {
		o.User = "postgres"
	}
	if o.Binary == "" {
		o.Binary = binary
	}
	return &Driver{o: o}
}

// Look reads what the repository holds of the database with a system identifier. Gaps are all
// that are there at the moment, whether what is missing may still come or not.
func (d *Driver) Look(ctx context.Context, cluster, system string) (*observed.Repository, error) {
	const what = "read the backup repository"
	c, err := readConfig(cluster)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, infoWithin)
	defer cancel()
	out, err := d.run(asking, what, cluster, "--output=json", "info")
	if err != nil {
		return nil, err
	}
	r, place, err := parseInfoAndPlace(out, cluster, system)
	if errors.Is(err, errUnreadable) {
		f := failed(what, cluster, d.o.Node, codeRepoInvalid, "")
		f.Message = what + ": " + err.Error()
		return nil, f
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r.Where = c.where(cluster)
	if place == "" || len(r.Backups) == 0 {
		return r, nil // nothing can be restored, so nothing is missing for that
	}
	listing, done := context.WithTimeout(ctx, listWithin)
	defer done()
	r.Unlisted = d.findGaps(listing, c, cluster, place, r)
	return r, nil
}

// Local is the folder of the cluster's repository when that is on this host.
func (d *Driver) Local(cluster string) (string, bool) {
	c, err := readConfig(cluster)
	if err != nil {
		return "", false
	}
	return c.local(cluster)
}

// Words is what archiving last said that went wrong; empty: nothing is known.
func (d *Driver) Words(cluster string) string {
	c, err := readConfig(cluster)
	if err != nil {
		return ""
	}
	return spoolWords(c.spool(cluster))
}

// spoolWords reads the newest word of asynchronous archiving: the file of a segment or of
// all, whose first line is a code.
func spoolWords(dir string) string {
	files, _ := filepath.Glob(dir + "/*.error") // the pattern is good
	slices.Sort(files)
	for _, f := range slices.Backward(files) {
		b, ok := readForeign(f)
		if !ok {
			continue
		}
		code, words, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
		return "[" + strings.TrimSpace(code) + "] " + firstLine(words)
	}
	return ""
}

// readForeign reads a small file in a folder that PostgreSQL's user, or anybody, may write
// to. This program is root: it follows no link there, whose target would go into a report,
// and waits for no pipe.
func readForeign(path string) ([]byte, bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	const most = 64 << 10
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return nil, false
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	return b, err == nil
}

// Stanza makes the stanza where there is none, and proves with a segment that PostgreSQL's
// WAL reaches the repository. Doing it again is a proof and nothing more.
func (d *Driver) Stanza(ctx context.Context, cluster string, port int) error {
	if err := d.archives(ctx, cluster, port); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stanzaWithin)
	defer cancel()
	check := func() error {
		_, err := d.run(ctx, "check archiving", cluster, fmt.Sprintf("--archive-timeout=%d", int(segmentWithin.Seconds())), "check")
		return err
	}
	// A check takes no lock and says at once when there is no stanza. To make one takes the
	// lock that the sending of WAL in the background has, on a busy cluster most of the time.
	err := check()
	if !is(err, observed.StanzaMissing) {
		return err
	}
	for {
		_, err = d.run(ctx, "make the stanza", cluster, "stanza-create")
		if !is(err, observed.BackupRunning) {
			break
		}
		if pause(ctx, lookEvery) != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return check()
}

// is reports a refusal for a reason.
func is(err error, reason observed.Reason) bool {
	r, ok := errors.AsType[*plan.Refusal](err)
	return ok && r.Reason == reason
}

// archives waits until the running PostgreSQL archives for this stanza.
func (d *Driver) archives(ctx context.Context, cluster string, port int) error {
	db := postgres.Config{Port: port}
	for deadline := time.Now().Add(settingsWithin); ; {
		s, err := db.ArchiveSettings(ctx)
		r := &plan.Refusal{Reason: observed.ArchivingOff, Next: "pgctrl status " + cluster}
		switch {
		case err != nil:
			r.Reason, r.Message = observed.NotAnswering, err.Error()
		case s.Mode == "off":
			return &plan.Refusal{Reason: observed.PendingRestart, Next: "pgctrl restart " + cluster,
				Message: "archive_mode is off in the running PostgreSQL; turning it on needs a restart"}
		case strings.Contains(s.Command, "archive-push") && strings.Contains(s.Command, "--stanza="+cluster+" "):
			return nil
		default:
			r.Message = fmt.Sprintf("the running PostgreSQL has not the archive command that was planned: %q", s.Command)
		}
		if time.Now().After(deadline) {
			return r
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// Archive finishes the current segment and waits until the archive has it. Everything that
// was committed before the call can be restored then; the position is where it ends.
func (d *Driver) Archive(ctx context.Context, cluster string, port int) (string, error) {
	db := postgres.Config{Port: port}
	lsn, segment, err := db.SwitchWAL(ctx)
	if err != nil {
		return "", err
	}
	for deadline := time.Now().Add(segmentWithin); ; {
		done, err := db.Archived(ctx, segment)
		if err == nil && done {
			return lsn, nil
		}
		if time.Now().After(deadline) {
			if err != nil {
				return "", err
			}
			f := failed("wait for the archive", cluster, d.o.Node, codeArchiveTimeout, "")
			f.Message = fmt.Sprintf("segment %s did not reach the archive within %s", segment, segmentWithin)
			if words := d.Words(cluster); words != "" {
				f.Message += " (" + words + ")"
			}
			return "", f
		}
		if err := pause(ctx, lookEvery); err != nil {
			return "", err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
