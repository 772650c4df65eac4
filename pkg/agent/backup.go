package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/jitter"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// backupConcern is the concern whose plan has pgBackRest's file.
const backupConcern = "backup"

const (
	// repositoryEvery is how often a repository is read that nothing happened to: somebody
	// else may have expired something in it. An object store is paid by the request.
	repositoryEvery = 6 * time.Hour
	// tellAgain is after how long a look tells how far the archive is when that is its only news.
	tellAgain = time.Hour
	// repositoryRetry is how soon one is read again that could not be.
	repositoryRetry = 5 * time.Minute
)

// backups knows what the cluster's backup repository holds, and says when archiving fails.
// It has a goroutine of its own, because a repository may take a minute to say nothing.
type backups struct {
	c    *cluster
	wake chan struct{}
	// looking is held by whoever reads the repository: an older answer that came later would
	// hide a backup that was made meanwhile.
	looking chan struct{}

	left left // its cond is guarded by the cluster's mu
	gaps gaps // guarded by the cluster's mu

	// The cluster's mu guards the rest.
	repository *observed.Repository // of the last look; nil: there was none
	told       time.Time            // when it was looked at that way
	problem    *observed.Condition  // of the last look
	basis      string               // why it was looked at
	next       time.Time            // when it is again
	archive    *observed.Condition  // since archiving fails
}

func newBackups(c *cluster) *backups {
	return &backups{c: c, wake: make(chan struct{}, 1), looking: make(chan struct{}, 1)}
}

func (w *backups) run(ctx context.Context) {
	if w.c.a.o.Host.Backups == nil {
		return
	}
	again(ctx, w.wake, w.once)
}

// once looks at what there is to look at, and says when to do it again.
func (w *backups) once(ctx context.Context) time.Duration {
	c := w.c
	now := time.Now()
	c.mu.Lock()
	s := c.lookLocked()
	own, _ := c.info.Own()
	p, inForce := w.planLocked()
	leads := inForce && own.Name != "" && s.view.Leader.Member == own.Name
	nobody := s.view.Leader.Member == "" || s.view.System == ""
	var archiving observed.Archiving
	if c.watcher != nil {
		archiving, w.gaps.timeline = c.watcher.Last().Archiving, c.watcher.Last().Timeline
	}
	c.mu.Unlock()
	w.judgeArchive(leads && archiving.Late(), archiving)
	idle := sqlIdle
	if !nobody {
		idle = w.archiveLeft(ctx, inForce && own.Name != "" && !leads, s.view.Leader.Member+s.view.Leader.Since.String())
	}
	local := false
	if inForce {
		_, local = c.a.o.Host.Backups.Local(c.name)
	}
	basis := ""
	switch {
	case inForce && nobody:
		return sqlIdle // whoever led before still has what was said; a leader wakes this
	case leads:
		basis = plan.Hash(p.Resources, p.Secrets) + " led since " + s.view.Leader.Since.String()
	case inForce && local && own.Name != "":
		// What this host has of a time when its member led is nowhere else.
		basis = plan.Hash(p.Resources, p.Secrets) + " not led"
	}
	dropped := ""
	if leads && c.a.o.Host.ArchiveDropped != nil {
		dropped = c.a.o.Host.ArchiveDropped(c.name)
	}
	c.mu.Lock()
	due := basis != w.basis || w.keepsLocked(leads) && !now.Before(w.next)
	w.gaps.heed(leads, basis != w.basis, dropped, archiving, now)
	due = due || w.gaps.due(archiving, now)
	w.basis = basis
	c.mu.Unlock()
	switch {
	case basis == "" && due:
		w.forget()
	case due:
		_, _ = w.look(ctx) // the report says so
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if basis != "" && w.keepsLocked(leads) {
		idle = min(idle, max(time.Second, time.Until(w.next)))
	}
	if leads {
		idle = min(idle, w.gaps.idle())
	}
	return idle
}

// keepsLocked reports whether the repository is looked at again although nothing happened.
func (w *backups) keepsLocked(leads bool) bool {
	return leads || w.problem != nil || w.gaps.unsettled
}

// planLocked is the backup plan whose file is on the host; false: there is none, or it says that
// there is nothing to back up to. What else is in the plan may be refused for as long as it likes.
func (w *backups) planLocked() (plan.Plan, bool) {
	con := w.c.concerns[backupConcern]
	if con == nil || con.removed != "" {
		return plan.Plan{}, false
	}
	p := con.plan
	if con.loaded != nil {
		p = *con.loaded
	}
	if p.Removal != nil {
		return plan.Plan{}, false
	}
	for _, r := range p.Resources {
		f, ok := r.(plan.Watched)
		if ok && f.File == plan.BackupConfig(w.c.name) && !plan.Absent(r) &&
			(con.loaded != nil || con.applied[r.ID()] == plan.Hash(plan.Resources{r}, p.Secrets)) {
			return p, true
		}
	}
	return plan.Plan{}, false
}

// errNoSystem: whose backups to look for is not known, as in the first moment of an agent's
// life. A repository is never empty for that.
var errNoSystem = errors.New("the cluster's system identifier is not known yet")

// look reads the repository, for the report and for whoever asks. What it said before stays
// when it can't be read.
func (w *backups) look(ctx context.Context) (*observed.Repository, error) {
	c := w.c
	c.mu.Lock()
	system := c.lookLocked().view.System
	c.mu.Unlock()
	if system == "" {
		return nil, errNoSystem
	}
	select {
	case w.looking <- struct{}{}:
		defer func() { <-w.looking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := time.Now()
	r, err := c.a.o.Host.Backups.Look(ctx, c.name, system)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := repositoryEvery + jitter.N(repositoryEvery/12)
	if err != nil {
		cond := plan.Condition(err)
		cond.Type, cond.Status = observed.Healthy, observed.Unknown
		if cond.Reason == observed.ApplyFailed {
			cond.Reason = observed.RepositoryUnreachable
		}
		if w.problem == nil || *w.problem != cond {
			c.log.Warn("backup repository not read", zap.String("concern", backupConcern), zap.Error(err))
		}
		kept := observed.Repository{}
		if w.repository != nil {
			kept = *w.repository
		}
		kept.Error = cond.Message
		r, w.problem, wait = &kept, &cond, repositoryRetry
	} else {
		wait = min(wait, w.judgeGaps(r, w.problem != nil, began))
		w.problem = nil
	}
	if w.repository == nil || began.Sub(w.told) >= tellAgain || !sameButWAL(*w.repository, *r) {
		w.repository, w.told = r, began
	}
	w.next = time.Now().Add(wait)
	poke(c.wakeWork)
	poke(w.wake) // the clock that this runs by is another one now
	return r, err
}

// sameButWAL reports a repository of which there is nothing to say but that archiving goes on: a
// look for gaps finds that, and what is reported must not change while nothing happens (R8).
func sameButWAL(was, is observed.Repository) bool {
	was.LastWAL, is.LastWAL = "", ""
	return reflect.DeepEqual(was, is)
}

// forget drops what is not this node's to say any more.
func (w *backups) forget() {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	w.repository, w.problem = nil, nil
	w.gaps.forget()
	poke(w.c.wakeWork)
}

// judgeArchive notes that archiving began to fail, or ended to. The words are those of the
// first moment: what is reported must not change while nothing does (R8).
func (w *backups) judgeArchive(late bool, a observed.Archiving) {
	c := w.c
	c.mu.Lock()
	was := w.archive != nil
	c.mu.Unlock()
	if late == was {
		return
	}
	var cond *observed.Condition
	if late {
		said := fmt.Sprintf("finished WAL has waited for the archive for more than %s", observed.ArchiveLate)
		if a.Failed.After(a.Archived) {
			said += "; archiving " + a.Segment + " fails"
		}
		if words := c.archiveWords(); words != "" {
			said += ": " + words
		}
		cond = &observed.Condition{
			Type: observed.Healthy, Status: observed.False, Reason: observed.ArchiveFailing, Message: said,
			Next: "pgctrl backup check " + c.name,
		}
		c.log.Error("archiving fails", zap.String("message", said))
	} else {
		c.log.Info("archiving goes on")
	}
	c.mu.Lock()
	w.archive = cond
	c.mu.Unlock()
	poke(c.wakeWork)
}

func (c *cluster) archiveWords() string {
	if c.a.o.Host.ArchiveWords == nil {
		return ""
	}
	return c.a.o.Host.ArchiveWords(c.name)
}

// reportLocked adds what is known.
func (w *backups) reportLocked(r *observed.Report) {
	r.Repository = w.repository
	for _, cond := range []*observed.Condition{w.problem, w.archive, w.left.cond} {
		if cond != nil {
			r.Conditions = append(r.Conditions, *cond)
		}
	}
}

// made is the backup that a step made, by what the repository says; false: it has none.
func made(r *observed.Repository, step string) (observed.Backup, bool) {
	if r != nil {
		for _, b := range r.Backups {
			if b.Step == step && step != "" {
				return b, true
			}
		}
	}
	return observed.Backup{}, false
}
