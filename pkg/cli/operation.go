package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
)

func (a *app) operationCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "operation", Short: "One-shot work on clusters: what runs, what came of it",
		Long: `A backup, for example, is an operation: a record in etcd that the server moves on,
phase by phase, and whose steps agents do. It goes on when the command that asked for
it is gone, and after a crash of any program.`,
	}
	c.AddCommand(a.operationList(), a.operationShow(), a.operationWatch(), a.operationCancel())
	return c
}

// task is an operation as it is shown: the record, and how far its phase under way is.
type task struct {
	operations.Operation
	Progress *observed.Progress `json:"progress,omitempty"`

	stored operations.Stored
	// said are the last words of the node that does the phase.
	said string
}

// tasks are a cluster's operations, the oldest first. What only a newer program can read
// is among the unread.
func (l *live) tasks(cluster string) (out []task, unread []string) {
	ops, unread := operations.Load(l, l.layout, cluster)
	for _, o := range ops {
		out = append(out, l.taskOf(o))
	}
	return out, unread
}

func (l *live) taskOf(o operations.Stored) task {
	t := task{Operation: o.Operation, stored: o}
	if p, ok := o.Now(); ok && p.Step != "" && !o.State.Final() {
		if r, ok := observed.Read[observed.StepResult](l, l.layout.ResultKey(p.Node, p.Step)); ok {
			t.said = r.Message
			if !r.Final() {
				t.Progress = r.Progress
			}
		}
	}
	return t
}

// task finds an operation of a cluster, with a near miss.
func (l *live) task(cluster, id string) (task, error) {
	if err := l.cluster(cluster); err != nil && !slices.Contains(l.operated(), cluster) {
		return task{}, err
	}
	ts, unread := l.tasks(cluster)
	var ids []string
	for _, t := range ts {
		if t.ID == id {
			return t, nil
		}
		ids = append(ids, t.ID)
	}
	if key := l.layout.OperationKey(cluster, id); slices.Contains(unread, key) {
		return task{}, newer(key)
	}
	return task{}, fail("cluster %s has no operation %s%s", cluster, id, didYouMean(id, ids)).then("pgctrl operation list %s --all", cluster)
}

// newer says that a record is for a program newer than this one.
func newer(key string) *failure {
	return fail("%s can't be read; a newer program may have written it", key).then("pgctrl version (compare it with the server's)")
}

// operated are the clusters that have operations, also ones without documents.
func (l *live) operated() []string {
	return l.names(keys.Operations, func(r keys.Ref) string { return r.Cluster })
}

func completeOperations(l *live, args []string, _ string) []string {
	ts, _ := l.tasks(args[0])
	var out []string
	for _, t := range slices.Backward(ts) {
		out = append(out, t.ID)
	}
	return out
}

// completeRunning are those that can be cancelled.
func completeRunning(l *live, args []string, _ string) []string {
	ts, _ := l.tasks(args[0])
	var out []string
	for _, t := range ts {
		if !t.State.Final() {
			out = append(out, t.ID)
		}
	}
	return out
}

// newestFew is how many operations that are over a list shows of each cluster.
const newestFew = 5

func (a *app) operationList() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "list [<cluster>]", Short: "What runs, then what ran last",
		Long: fmt.Sprintf("Operations that go on, then those that are over, the newest first: %d of each cluster,\nor all with --all.", newestFew),
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.complete(completeClusters),
		Example: "  pgctrl operation list\n  pgctrl operation list pg-test --all -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), statusFamilies...)
			if err != nil {
				return err
			}
			return a.listOperations(l, args, all)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also older ones that are over")
	return a.withFormat(c)
}

func (a *app) listOperations(l *live, args []string, all bool) error {
	clusters := l.operated()
	if len(args) > 0 {
		if err := l.cluster(args[0]); err != nil && !slices.Contains(clusters, args[0]) {
			return err
		}
		clusters = args
	}
	shown, hidden := []task{}, 0
	for _, cluster := range clusters {
		ts, unread := l.tasks(cluster)
		for _, key := range unread {
			a.note("%s", newer(key).cause)
		}
		over := 0
		for _, t := range slices.Backward(ts) {
			if t.State.Final() {
				if over++; over > newestFew && !all {
					hidden++
					continue
				}
			}
			shown = append(shown, t)
		}
		if h, held := operations.TokenHolder(l, l.layout, cluster); held && !slices.ContainsFunc(ts, func(t task) bool { return t.ID == h.Operation }) {
			a.note("%s: %s goes on, by %s since %s", cluster, h.Operation, orDash(h.By), h.Since.Format(time.RFC3339))
		}
	}
	slices.SortStableFunc(shown, func(x, y task) int {
		return cmp.Or(cmp.Compare(finality(x), finality(y)), y.Asked.Compare(x.Asked), cmp.Compare(x.Cluster, y.Cluster))
	})
	return a.emit(shown, func() {
		if len(shown) == 0 {
			a.note("no operations yet; a backup is one: pgctrl backup <cluster>")
		}
		a.showTasks(shown)
		if hidden > 0 {
			a.note("and %d older; all of them: pgctrl operation list %s", hidden, strings.Join(append(slices.Clone(args), "--all"), " "))
		}
	})
}

func finality(t task) int {
	if t.State.Final() {
		return 1
	}
	return 0
}

func (a *app) showTasks(ts []task) {
	heads := []string{"CLUSTER", "ID", "KIND", "STATE", "PHASE", ">PROGRESS", ">ASKED", "BY"}
	if a.wide() {
		heads = append(heads, "NODE", ">TOOK", "LABEL")
	}
	t := newTable(a.out, append(heads, "WHY")...)
	for _, o := range ts {
		phase, node := "-", "-"
		if p, ok := o.Now(); ok && o.State != operations.Done {
			phase, node = p.Name, orDash(p.Node)
		}
		cells := []string{
			o.Cluster, o.ID, kindOf(o.Operation), a.stateWord(o.State), phase, orDash(percent(o.Progress)),
			a.ago(o.Asked), orDash(o.By),
		}
		if a.wide() {
			cells = append(cells, node, orDash(a.took(o.Began, o.Ended)), orDash(o.Label))
		}
		t.row(append(cells, whyOf(o))...)
	}
	t.write(a.Out)
}

// whyOf is what there is to say of it: what came of it, else why it was asked for.
func whyOf(t task) string {
	why := t.Why
	if t.Message != "" {
		why = t.Message
	}
	if t.Reason != "" {
		why = string(t.Reason) + ": " + why
	}
	return orDash(why)
}

// kindOf is the kind with what it takes, as in "full backup".
func kindOf(o operations.Operation) string {
	return strings.TrimSpace(string(o.Args.Backup) + " " + string(o.Kind))
}

func (a *app) stateWord(s operations.State) string {
	switch s {
	case operations.Done:
		return a.out.green(string(s))
	case operations.Failed:
		return a.out.red(string(s))
	case operations.Cancelled, operations.Cancelling:
		return a.out.yellow(string(s))
	case operations.Running:
		return a.out.bold(string(s))
	}
	return string(s)
}

// ago is how long ago something was; never negative, because clocks differ.
func (a *app) ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return roughly(a.deps.Now().Sub(t)) + " ago"
}

// took is how long something took, or takes up to now; empty before it begins.
func (a *app) took(began, ended time.Time) string {
	if began.IsZero() {
		return ""
	}
	if ended.IsZero() {
		ended = a.deps.Now()
	}
	return roughly(ended.Sub(began))
}
