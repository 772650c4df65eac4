package agenttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Backups is a fake pgBackRest with one repository, and the systemd that its backups run
// under: what was begun goes on while the agent is away, and is ended when it stays away.
type Backups struct {
	mu     sync.Mutex
	events []string
	looks  int
	local  bool
	held   observed.Repository
	fail   map[string]error // "look", "stanza", "archive", "start", "reach <member>" -> error
	wait   chan struct{}    // closed: Stanza and Archive return; nil: at once
	run    agent.BackupRun
	kept   time.Time // when somebody last looked after it
	from   string    // the member whose files it copies
	left   int       // finished WAL that waits on a replica
	// dropped is the segment that archiving dropped last.
	dropped string
}

func newBackups() *Backups {
	return &Backups{held: observed.Repository{Where: "s3:store/bucket/c"}, fail: map[string]error{}}
}

// Backups is the host's pgBackRest.
func (h *Host) Backups() *Backups { return h.backups }

// Fail makes an act fail; nil ends it.
func (b *Backups) Fail(act string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail[act] = err
}

// SetLocal has the repository on this host alone.
func (b *Backups) SetLocal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.local, b.held.Where = true, "local:/var/lib/pgbackrest"
}

// Hang has stanzas and archiving wait until the returned function is called.
func (b *Backups) Hang() (goOn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wait = make(chan struct{})
	return sync.OnceFunc(func() { close(b.wait) })
}

// Events returns what was done, in order, and Looks how often the repository was read.
func (b *Backups) Events() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.events...)
}

// Looks is how often the repository was read.
func (b *Backups) Looks() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.looks
}

// At says how far the backup is.
func (b *Backups) At(done int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run.Progress = &observed.Progress{Done: done, Total: 100, Unit: "%"}
}

// Finish ends the backup, well when err is nil.
func (b *Backups) Finish(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run.Running, b.run.Err = false, err
	if err == nil {
		b.held.Backups = append(b.held.Backups, observed.Backup{Label: fmt.Sprintf("%dF", len(b.held.Backups)+1), Type: "full", Step: b.run.Step, From: b.from})
	}
}

// Boot is a boot of the host: nothing runs any more, and nobody knows how it ended.
func (b *Backups) Boot() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run = agent.BackupRun{}
}

// Running is the step whose backup goes on; empty: none does.
func (b *Backups) Running() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchdog()
	if !b.run.Running {
		return ""
	}
	return b.run.Step
}

// watchdog is systemd's: what nobody looks after is ended. The caller holds mu.
func (b *Backups) watchdog() {
	if b.run.Running && time.Since(b.kept) > plan.BackupLost {
		b.run.Running, b.run.Err = false, &plan.Refusal{Reason: observed.AgentCutOff, Message: "nobody looked after it"}
		b.events = append(b.events, "watchdog")
	}
}

func (b *Backups) event(format string, args ...any) {
	b.events = append(b.events, fmt.Sprintf(format, args...))
}

// Leave has finished WAL wait on the host.
func (b *Backups) Leave(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = n
}

// ArchiveHas has the archive reach up to a segment, and lack these.
func (b *Backups) ArchiveHas(last string, gaps ...observed.Gap) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held.LastWAL, b.held.Gaps = last, gaps
}

// Unlisted has the archive tell no names; nil ends it.
func (b *Backups) Unlisted(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held.Unlisted = err
}

// Drop has archiving say that it dropped a segment.
func (b *Backups) Drop(segment string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropped = segment
}

func (b *Backups) droppedNow() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

// Left implements agent.Backups.
func (b *Backups) Left(context.Context, string) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail["left"]; err != nil && b.left > 0 {
		return b.left, err
	}
	if b.left > 0 {
		b.event("left %d", b.left)
	}
	b.left = 0
	return 0, nil
}

// Look implements agent.Backups.
func (b *Backups) Look(_ context.Context, _, system string) (*observed.Repository, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looks++
	if err := b.fail["look"]; err != nil {
		return nil, err
	}
	r := b.held
	if system == "" { // nobody's
		r.Stanza, r.Backups = false, nil
	}
	r.Backups, r.Gaps = append([]observed.Backup(nil), r.Backups...), append([]observed.Gap(nil), r.Gaps...)
	if r.Unlisted != nil {
		r.Gaps = nil
	}
	return &r, nil
}

// Local implements agent.Backups.
func (b *Backups) Local(string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return "/var/lib/pgbackrest", b.local
}

// Stanza implements agent.Backups.
func (b *Backups) Stanza(ctx context.Context, cluster string, _ plan.Member) error {
	err := b.slow(ctx, "stanza")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held.Stanza = b.held.Stanza || err == nil
	return err
}

// Archive implements agent.Backups.
func (b *Backups) Archive(ctx context.Context, cluster string, _ plan.Member) (string, error) {
	return "0/5000000", b.slow(ctx, "archive")
}

// Heartbeat implements agent.Backups.
func (b *Backups) Heartbeat(ctx context.Context, _ string, _ plan.Member, id string) (observed.Heartbeat, error) {
	err := b.slow(ctx, "heartbeat")
	return observed.Heartbeat{ID: id, At: time.Now().UTC(), Window: 7, Archived: 0.5, LSN: "0/5000000"}, err
}

func (b *Backups) slow(ctx context.Context, act string) error {
	b.mu.Lock()
	b.event("%s", act)
	wait, err := b.wait, b.fail[act]
	b.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// Start implements agent.BackupRuns.
func (b *Backups) Start(_ context.Context, _ string, o agent.BackupOrder) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchdog()
	b.event("start %s %s", o.Step, o.Type)
	if o.Address != "" {
		b.event("from %s", o.From)
	}
	b.from = o.From
	if err := b.fail["start"]; err != nil {
		return err
	}
	if b.run.Running {
		return errors.New("one runs already")
	}
	b.run, b.kept = agent.BackupRun{Step: o.Step, Running: true}, time.Now()
	return nil
}

// Reach implements agent.BackupRuns.
func (b *Backups) Reach(_ context.Context, _ string, from plan.Member) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fail["reach "+from.Name]
}

// Run implements agent.BackupRuns.
func (b *Backups) Run(context.Context, string) (agent.BackupRun, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchdog()
	return b.run, nil
}

// Keep implements agent.BackupRuns.
func (b *Backups) Keep(context.Context, string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchdog()
	b.kept = time.Now()
	return nil
}

// End implements agent.BackupRuns.
func (b *Backups) End(context.Context, string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.run.Running {
		b.event("stop %s", b.run.Step)
	}
	b.run = agent.BackupRun{}
	return nil
}
