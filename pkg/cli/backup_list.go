package cli

import (
	"cmp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

func (a *app) backupList() *cobra.Command {
	c := &cobra.Command{
		Use: "list <cluster>", Short: "What the repository has, as of its last look",
		Long: `Every complete backup, the newest last, and from when to when the archive has WAL.
Any moment from a backup's end (STOPPED) to the end of the archive can be restored, but
for those behind a gap in it, which only a backup of after the gap reaches.
A repository in a folder of the host is listed for each node that has one.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeClusters),
		Example: "  pgctrl backup list pg-test\n  pgctrl backup list pg-test -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), statusFamilies...)
			if err != nil {
				return err
			}
			if err := l.cluster(args[0]); err != nil && !slices.Contains(status.Clusters(a.input(l, "")), args[0]) {
				return err
			}
			return a.listBackups(l, args[0])
		},
	}
	return a.withFormat(c)
}

// shelf is one repository as it is shown.
type shelf struct {
	Node string `json:"node"`
	// Leader: new backups go there.
	Leader bool `json:"leader"`
	observed.Repository
}

// shelves are a cluster's repositories, the leader's first.
func (a *app) shelves(l *live, s status.ClusterStatus) []shelf {
	out := []shelf{}
	leader := leaderNode(s)
	all := status.Repositories(a.input(l, s.Cluster), leader)
	for _, node := range sortedKeys(all) {
		out = append(out, shelf{Node: node, Leader: node == leader, Repository: all[node]})
	}
	slices.SortStableFunc(out, func(x, y shelf) int {
		return cmp.Compare(toInt(!x.Leader), toInt(!y.Leader))
	})
	return out
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func leaderNode(s status.ClusterStatus) string {
	for _, m := range s.Members {
		if m.Name == s.Leader {
			return m.Node
		}
	}
	return ""
}

func (a *app) listBackups(l *live, cluster string) error {
	s := status.Compute(a.input(l, cluster))
	all := a.shelves(l, s)
	return a.emit(all, func() {
		if len(all) == 0 {
			a.note("no node has said yet what the repository of %s has; the leader's agent looks at it", cluster)
			a.note("  next: %s", a.err.bold("pgctrl backup check "+cluster))
		}
		a.showShelves(all)
		if b := s.Backups; b != nil && b.Verified != nil && len(all) > 0 {
			a.say("verified %s", a.verifiedLine(*b.Verified))
		}
	})
}

func (a *app) showShelves(all []shelf) {
	heads := []string{"NODE", "LABEL", "TYPE", "STOPPED", ">AGE", ">SIZE", ">STORED"}
	if a.wide() {
		heads = append(heads, ">READ", ">TOOK", "FROM", "FIRST WAL", "LAST WAL")
	}
	t := newTable(a.out, append(heads, "WAL", "")...)
	for _, r := range all {
		for _, b := range r.Backups {
			cells := []string{r.Node, b.Label, b.Type, b.Stopped.UTC().Format(time.RFC3339), roughly(a.deps.Now().Sub(b.Stopped)), size(b.Size), size(b.Stored)}
			if a.wide() {
				cells = append(cells, size(b.Copied), roughly(b.Stopped.Sub(b.Started)), cmp.Or(b.From, "-"), b.FirstWAL, b.LastWAL)
			}
			wal, remark := a.out.green("archived"), ""
			if !archived(r.Repository, b) {
				wal = a.out.red("missing")
			} else if g, _, found := r.Gap(b); found {
				wal = a.out.yellow("up to " + gapSince(g))
			}
			if b.Damaged {
				remark = a.out.red("damaged: pages failed their checksums")
			}
			t.row(append(cells, wal, remark)...)
		}
	}
	t.write(a.Out)
	for _, r := range all {
		where := r.Where + " on " + r.Node
		if !status.LocalRepository(r.Repository) {
			where = r.Where
		}
		switch {
		case len(r.Backups) == 0:
			a.say("%s: no backup yet", where)
		case r.FirstWAL == "":
			a.say("%s: %s", where, a.out.red("the archive has no WAL, so nothing can be restored"))
		default:
			a.say("%s: archive from %s to %s at the last look; restorable from %s on", where, r.FirstWAL, r.LastWAL, restorable(r.Repository))
		}
		a.showGaps(r.Repository)
		if r.Error != "" {
			a.say("%s: %s", a.out.red("not readable now"), r.Error)
		}
	}
}

// restorable is the first moment that can be restored.
func restorable(r observed.Repository) string {
	for _, b := range r.Backups {
		if archived(r, b) {
			return b.Stopped.UTC().Format(time.RFC3339)
		}
	}
	return "nowhere"
}

// archived reports whether the archive has the WAL that makes a backup consistent, as far
// as its ends and its gaps tell. Names of segments sort by timeline and then by place.
func archived(r observed.Repository, b observed.Backup) bool {
	_, whole, _ := r.Gap(b)
	return whole && r.FirstWAL != "" && r.FirstWAL <= b.FirstWAL && b.LastWAL <= r.LastWAL
}
