package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/status"
)

func (a *app) backupCheck() *cobra.Command {
	c := &cobra.Command{
		Use: "check <cluster>", Short: "Whether backups are in order",
		Long: `Looks at what is known: whether WAL reaches the archive, how old the newest full backup
is beside its schedule, whether WAL is missing from the archive, whether the leader's
repository lacks backups that another node has, what came of the last one, and when it was
proved that one can be restored. Nothing is run on any host; pgctrl backup verify makes a proof.

Exit code 2 when something is not in order.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeClusters),
		Example: "  pgctrl backup check pg-test\n  pgctrl backup check pg-test -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), statusFamilies...)
			if err != nil {
				return err
			}
			if err := l.cluster(args[0]); err != nil {
				return err
			}
			return a.checkBackups(l, args[0])
		},
	}
	return a.withFormat(c)
}

// finding is one answer of a check.
type finding struct {
	What    string `json:"what"`
	OK      bool   `json:"ok"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
}

func (a *app) checkBackups(l *live, cluster string) error {
	s := status.Compute(a.input(l, cluster))
	doc := desired.Load(l, l.layout, cluster).Backup
	if !doc.On() {
		return switchedOff(cluster, "")
	}
	e := evidence{status: s, shelves: a.shelves(l, s), now: a.deps.Now()}
	e.tasks, _ = l.tasks(cluster)
	_, e.proves = doc.VerifySchedule()
	if when, ok := doc.Schedule("full"); ok {
		e.fullDue, _ = when.Before(e.now)
	}
	fs := e.findings()
	ok := !slices.ContainsFunc(fs, func(f finding) bool { return !f.OK })
	v := struct {
		Cluster  string    `json:"cluster"`
		OK       bool      `json:"ok"`
		Findings []finding `json:"findings"`
	}{cluster, ok, fs}
	if err := a.emit(v, func() { a.showFindings(fs) }); err != nil {
		return err
	}
	return converged(ok)
}

func (a *app) showFindings(fs []finding) {
	t := newTable(a.out, "WHAT", "", "FOUND")
	for _, f := range fs {
		word := a.out.green("ok")
		if !f.OK {
			word = a.out.red("NOT OK")
		}
		t.row(f.What, word, f.Message)
	}
	t.write(a.Out)
	for _, f := range fs {
		if f.Next != "" {
			a.say("  next: %s", a.out.bold(f.Next))
		}
	}
}

// evidence is all that a check goes by.
type evidence struct {
	status  status.ClusterStatus
	shelves []shelf
	tasks   []task
	now     time.Time
	// proves: the document wants proofs that backups can be restored.
	proves bool
	// fullDue is when a full backup was due last; zero: none is scheduled.
	fullDue time.Time
}

func (e evidence) findings() []finding {
	out := []finding{e.archiving()}
	own, ok := e.own()
	if !ok {
		return append(out, finding{What: "repository", Message: "the node that leads has not said what its repository has", Next: "pgctrl status " + e.status.Cluster}, e.last())
	}
	out = append(out, e.repository(own), e.full(own), e.newest(own), e.gap(own))
	if f, split := e.split(own); split {
		out = append(out, f)
	}
	return append(out, e.verified(), e.last())
}

func (e evidence) own() (shelf, bool) {
	if len(e.shelves) == 0 || !e.shelves[0].Leader {
		return shelf{}, false
	}
	return e.shelves[0], true
}

// archiving is what the nodes say of the concern: the first condition that is bad.
func (e evidence) archiving() finding {
	f := finding{What: "archiving"}
	for _, c := range e.status.Conditions {
		if c.Concern == status.ConcernBackup && c.Bad() {
			f.Message, f.Next = fmt.Sprintf("%s: %s", c.Reason, c.Message), c.Next
			return f
		}
	}
	word := status.ArchivingUnknown
	if b := e.status.Backups; b != nil {
		word = b.Archiving
	}
	f.OK, f.Message = word == status.ArchivingOK, word
	if !f.OK {
		f.Next = "pgctrl status " + e.status.Cluster
	}
	return f
}

func (e evidence) repository(own shelf) finding {
	f := finding{What: "repository", Message: fmt.Sprintf("%s, seen from %s", own.Where, own.Node)}
	switch {
	case own.Error != "":
		f.Message, f.Next = own.Where+": "+own.Error, "pgctrl status "+e.status.Cluster
	case !own.Stanza:
		f.Message, f.Next = own.Where+" has nothing for this database yet", "pgctrl backup "+e.status.Cluster
	default:
		f.OK = true
	}
	return f
}

func (e evidence) full(own shelf) finding {
	again := fmt.Sprintf("pgctrl backup %s --type full", e.status.Cluster)
	b, ok := status.NewestFull(own.Repository)
	if !ok {
		return finding{What: "full backup", Message: "there is none", Next: again}
	}
	f := finding{What: "full backup", OK: true, Message: fmt.Sprintf("%s is %s old", b.Label, roughly(e.now.Sub(b.Stopped)))}
	if !e.fullDue.IsZero() && b.Started.Before(e.fullDue) {
		f.Message += ", and one was due at " + e.fullDue.UTC().Format(time.RFC3339)
		if e.now.Sub(e.fullDue) > operations.OverdueAfter {
			f.OK, f.Next = false, again
		}
	}
	return f
}

// newest is whether the newest backup can be restored, as far as the archive's ends tell.
func (e evidence) newest(own shelf) finding {
	f := finding{What: "newest backup"}
	b, ok := own.Newest()
	switch {
	case !ok:
		f.Message = "there is none"
	case b.Damaged:
		f.Message, f.Next = b.Label+" has pages that failed their checksums", "pgctrl backup list "+e.status.Cluster
	case !archived(own.Repository, b):
		f.Message, f.Next = b.Label+" needs WAL that the archive does not have", "pgctrl backup list "+e.status.Cluster+" -o wide"
	default:
		f.OK, f.Message = true, fmt.Sprintf("%s (%s) is %s old", b.Label, b.Type, roughly(e.now.Sub(b.Stopped)))
	}
	return f
}

// split finds repositories in which backups are that the leader's lacks, as after a
// failover between nodes that keep them in folders of their own. Older ones there are
// no loss: retention may have dropped them here.
func (e evidence) split(own shelf) (finding, bool) {
	newest, _ := own.Newest()
	var others []string
	for _, s := range e.shelves {
		if b, ok := s.Newest(); !s.Leader && ok && b.Stopped.After(newest.Stopped) {
			others = append(others, fmt.Sprintf("%s on %s", b.Label, s.Node))
		}
	}
	if len(others) == 0 {
		return finding{What: "one repository", OK: true, Message: "no other node has newer backups"}, len(e.shelves) > 1
	}
	return finding{
		What: "one repository", Message: fmt.Sprintf("the leader's on %s lacks %s; a repository that nodes share survives a failover", own.Node, strings.Join(others, ", ")),
		Next: fmt.Sprintf("pgctrl backup %s --type full", e.status.Cluster),
	}, true
}

// last is what came of the newest backup that is over.
func (e evidence) last() finding {
	f := finding{What: "last operation", OK: true, Message: "none is over yet"}
	for _, t := range slices.Backward(e.tasks) {
		if t.Kind != operations.KindBackup || !t.State.Final() {
			continue
		}
		f.Message = fmt.Sprintf("%s: %s", t.ID, t.State)
		if t.State == operations.Failed {
			f.OK, f.Message = false, strings.TrimSuffix(fmt.Sprintf("%s failed: %s", t.ID, whyOf(t)), ": -")
			f.Next = fmt.Sprintf("pgctrl operation show %s %s", e.status.Cluster, t.ID)
		}
		return f
	}
	return f
}
