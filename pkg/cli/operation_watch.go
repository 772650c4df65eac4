package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/status"
)

func (a *app) operationWatch() *cobra.Command {
	c := &cobra.Command{
		Use: "watch <cluster> [<id>]", Short: "Follow an operation to its end",
		Long: `Says what comes about until the operation is over; without an id, the one that goes
on, else the newest. Interrupting this ends the watching and nothing else.

Exit code 1 when it failed or was cancelled.`,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.complete(completeClusters, completeOperations),
		Example: "  pgctrl operation watch pg-test\n  pgctrl operation watch pg-test backup-mfg3k2a1",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := a.follow(cmd.Context())
			if err != nil {
				return err
			}
			defer f.stop()
			l := &live{Snapshot: f.Snapshot(), layout: a.settings.Layout}
			t, err := l.toWatch(args)
			if err != nil {
				return err
			}
			last, _, err := a.watchTask(cmd.Context(), f, t, 0)
			if err != nil {
				return err
			}
			return a.concludeTask(last)
		},
	}
	return c
}

// toWatch is the named operation, else the one that goes on, else the newest.
func (l *live) toWatch(args []string) (task, error) {
	if len(args) == 2 {
		return l.task(args[0], args[1])
	}
	if err := l.cluster(args[0]); err != nil {
		return task{}, err
	}
	ts, unread := l.tasks(args[0])
	if len(ts) == 0 {
		if len(unread) > 0 {
			return task{}, newer(unread[0])
		}
		return task{}, fail("cluster %s has no operation yet", args[0]).then("pgctrl backup %s", args[0])
	}
	best := ts[len(ts)-1]
	for _, t := range ts {
		if t.State == operations.Running || t.State == operations.Cancelling {
			return t, nil
		}
		if !t.State.Final() && best.State.Final() {
			best = t
		}
	}
	return best, nil
}

// errTaskGone: the record was deleted while it was watched.
var errTaskGone = errors.New("the operation's record is gone from etcd")

// forever is how long a watch without a limit lasts; no server lets an operation live as long.
const forever = 365 * 24 * time.Hour

// watchTask says what comes of an operation until it is over, or limit has passed (0: no
// limit). over is false when it goes on; the task is the last that was seen.
func (a *app) watchTask(ctx context.Context, f *follower, t task, limit time.Duration) (last task, over bool, err error) {
	if limit == 0 {
		limit = forever
	}
	p := a.newProgress()
	defer p.end()
	n := narrator{app: a, p: p}
	gone := false
	last = t
	over, err = a.await(ctx, f, 0, limit, func(s kv.Snapshot) bool {
		l := &live{Snapshot: s, layout: a.settings.Layout}
		e, ok := s.Get(t.stored.Key)
		if !ok || e.CreateRevision != t.stored.Created {
			// What was just written may not have arrived here yet.
			gone = f.Reached(t.stored.Key) >= t.stored.Revision
			return gone
		}
		o, err := observed.Decode[operations.Operation](e)
		if err != nil {
			return false // a newer program wrote it; it may write one more that can be read
		}
		last = l.taskOf(operations.Stored{Operation: o, Key: e.Key, Created: e.CreateRevision, Revision: e.ModRevision})
		server, _ := status.Server(a.input(s, t.Cluster))
		n.tell(last, server)
		return last.State.Final()
	})
	if err == nil && gone {
		err = fail("%s: %s", t.ID, errTaskGone).then("pgctrl operation list %s --all", t.Cluster)
	}
	return last, over, err
}

// narrator says each thing about an operation once: lines that stay, and on a terminal
// one that moves.
type narrator struct {
	*app
	p      *progress
	phases map[string]string
	said   string
	tenth  int64
	absent bool
}

func (n *narrator) tell(t task, server string) {
	if n.phases == nil {
		n.phases = map[string]string{}
	}
	for _, ph := range t.Phases {
		// A phase that is begun again has another count of tries.
		mark := fmt.Sprint(ph.State, ph.Tries, ph.Node)
		one := ph.Name + " " + ph.Member // of a phase that each member has
		if ph.State == "" || n.phases[one] == mark {
			continue
		}
		n.phases[one], n.tenth, n.said = mark, 0, ""
		n.p.came("%s", phaseLine(ph))
	}
	if why := whyOf(t); t.State == operations.Waiting && why != "-" && why != n.said {
		n.said = why
		n.p.came("waiting: %s", why)
	}
	if by := cmp.Or(t.Cancel, "it failed"); t.State == operations.Cancelling && n.said != by {
		n.said = by
		if t.Cancel != "" {
			n.p.came("%s asked for its end; what was under way is undone", t.Cancel)
		} else {
			n.p.came("%s; what was done is undone", strings.TrimSuffix(string(t.Reason)+": "+t.Message, ": "))
		}
	}
	if none := server == "" && !t.State.Final(); none != n.absent {
		n.absent = none
		if none {
			n.p.came("no pgctrl server runs; it goes on when one does (systemctl start pgctrl-server)")
		}
	}
	n.moving(t)
}

// moving is the bar on a terminal; elsewhere a line for each tenth of the whole.
func (n *narrator) moving(t task) {
	now, ok := t.Now()
	if !ok {
		n.p.waits("")
		return
	}
	if t.Progress == nil {
		n.p.waits(strings.TrimSuffix(now.Name+": "+t.said, ": "))
		return
	}
	n.p.waits(now.Name + "  " + bar(t.Progress) + "  " + amount(t.Progress))
	if tenth := share(t.Progress) / 10; tenth > n.tenth && !n.err.tty {
		n.tenth = tenth
		n.p.came("%s: %s", now.Name, amount(t.Progress))
	}
}

func phaseLine(p operations.Phase) string {
	line := p.Name + " " + string(p.State)
	switch p.State {
	case operations.PhaseRunning:
		line = p.Name
		if p.Node != "" {
			line += " on " + p.Node
		}
		if p.Tries > 1 {
			line += fmt.Sprintf(", try %d", p.Tries)
		}
	case operations.PhaseDone:
		if !p.Began.IsZero() && !p.Ended.IsZero() {
			line += " in " + roughly(p.Ended.Sub(p.Began))
		}
	}
	if p.Message != "" {
		line += ": " + p.Message
	}
	return line
}

// concludeTask is nil for an operation that was done, which it says.
func (a *app) concludeTask(t task) error {
	switch t.State {
	case operations.Done:
		line := "done       " + t.ID
		if t.Label != "" {
			line += ": " + t.Label
		}
		if took := a.took(t.Began, t.Ended); took != "" {
			line += " in " + took
		}
		a.say("%s", line)
		return nil
	case operations.Failed, operations.Cancelled:
		why := t.Message
		if t.Reason != "" {
			why = strings.TrimSuffix(string(t.Reason)+": "+why, ": ")
		}
		if t.State == operations.Cancelled {
			why = strings.TrimSuffix("by "+orDash(t.Cancel)+": "+why, ": ")
		}
		f := fail("%s %s: %s", t.ID, t.State, orDash(why))
		if t.Next != "" {
			f.then("%s", t.Next)
		}
		return f.then("pgctrl operation show %s %s", t.Cluster, t.ID)
	}
	a.note("%s is %s and goes on", t.ID, t.State)
	a.note("  next: %s", a.err.bold("pgctrl operation watch "+t.Cluster+" "+t.ID))
	return exitCode(NotConverged)
}
