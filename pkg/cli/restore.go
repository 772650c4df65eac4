package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/wal"
)

// restoreWait is how long restore waits by default: it copies all the data first.
const restoreWait = 4 * time.Hour

// restoring is what restore was asked for.
type restoring struct {
	newCluster
	from   string
	target operations.Target
	// words are the targets as they were typed, by type.
	words  map[operations.TargetType]*string
	latest bool
	now    bool // immediate

	inPlace, override bool
	discard           string // the restore whose kept data go
	typed             string
}

func (a *app) restoreCommand() *cobra.Command {
	r := restoring{words: map[operations.TargetType]*string{}}
	c := &cobra.Command{
		Use: "restore <cluster> --to <new cluster> --on <node>,... | --in-place", Short: "Bring back a moment of a cluster's past, in a new cluster or in place",
		Long: `Makes a new cluster with the data that another one had at a moment of its past, by
default with everything that it has now. The other cluster is not touched: it goes on,
and what it wrote up to now is archived first. Its users, databases, rules of access
and parameters come along. A target that can't be restored is refused, with the nearest
one that can, before anything is written.

Backups in a folder of a host (repository local) can be restored on that host only, so
the first node has to be the one that has them; further members copy from the first.

With --in-place the cluster itself goes back to that moment. The backup is restored and
recovered beside its data first, while it runs on; a target that can't be reached, or too
little room, ends it there. Then the cluster stops, for some seconds, the leader goes on
with the restored data, and the others copy them. Until it leads everything is put back
when something fails, or pgctrl operation cancel says so. Nothing is deleted: what was
written since stays beside the data of every member until --discard removes it. It asks
for the cluster's name.`,
		Example: `  pgctrl restore pg-test --to pg-copy --on pg4,pg5
  pgctrl restore pg-test --to pg-copy --on pg4 --time "2026-11-26 12:30:00+01"
  pgctrl restore pg-test --to pg-copy --on pg4 --name before-migration
  pgctrl restore pg-test --to pg-copy --on pg4 --lsn 0/5000110 --dry-run
  pgctrl restore pg-test --in-place --time "2026-11-26 12:30:00+01"
  pgctrl restore pg-test --discard restore-mfg3k2a1`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.from = args[0]
			if !cmd.Flags().Changed("wait") {
				r.w.wait = restoreWait
			}
			if err := r.chosen(a.deps.Now()); err != nil {
				return err
			}
			switch apart := r.name != "" || len(r.on) > 0 || r.vip != ""; {
			case r.discard != "":
				return a.discard(cmd.Context(), r, r.discard)
			case r.inPlace && apart:
				return fail("expected --in-place, or --to and --on for a new cluster, found both. Nothing was written.").then("pgctrl restore --help")
			case r.inPlace:
				return a.restoreInPlace(cmd.Context(), r)
			}
			return a.restore(cmd.Context(), r)
		},
	}
	r.w.add(c)
	c.Flags().Lookup("wait").DefValue = restoreWait.String()
	c.Flags().StringVar(&r.name, "to", "", "the new cluster's name")
	c.Flags().StringSliceVar(&r.on, "on", nil, "the new cluster's nodes, the first member's first")
	c.Flags().StringVar(&r.vip, "vip", "", "virtual address of the new cluster, with the length of its network")
	c.Flags().StringVar(&r.target.Backup, "backup", "", "the backup to begin with, by its label; the one that fits best")
	for t, help := range map[operations.TargetType]string{
		operations.TargetTime: "up to a moment, with its time zone, as in 2026-11-26 12:30:00+01; without one it is this host's",
		operations.TargetName: "up to a restore point (pg_create_restore_point)",
		operations.TargetLSN:  "up to a position in WAL, as in 0/5000110",
		operations.TargetXID:  "up to and with a transaction",
	} {
		r.words[t] = c.Flags().String(string(t), "", help)
	}
	c.Flags().BoolVar(&r.latest, "latest", false, "everything there is (the default)")
	c.Flags().BoolVar(&r.now, "immediate", false, "no more than the backup itself")
	c.Flags().BoolVar(&r.inPlace, "in-place", false, "restore the cluster itself, and make no new one")
	c.Flags().StringVar(&r.discard, "discard", "", "remove the data that a restore in place kept, by its id")
	c.Flags().StringVar(&r.typed, "confirm", "", "the cluster's name, instead of typing it when asked")
	overrideFlag(c, &r.override)
	c.MarkFlagsMutuallyExclusive("in-place", "discard")
	c.MarkFlagsMutuallyExclusive("time", "name", "lsn", "xid", "latest", "immediate")
	_ = c.RegisterFlagCompletionFunc("on", a.completeNodeLists)
	return c
}

// chosen reads the target.
func (r *restoring) chosen(now time.Time) (err error) {
	r.target.Type = operations.TargetLatest
	if r.now {
		r.target.Type = operations.TargetImmediate
	}
	for t, word := range r.words {
		if *word == "" {
			continue
		}
		r.target.Type, r.target.Value = t, *word
		switch t {
		case operations.TargetTime:
			if r.target.Time, err = operations.ParseTime(*word, now.Location()); err == nil {
				r.target.Value = r.target.Time.UTC().Format("2006-01-02 15:04:05.999999+00")
			}
		case operations.TargetLSN:
			_, err = wal.ParseLSN(*word)
		}
		if err != nil {
			return fail("--%s: %s. Nothing was written.", t, err)
		}
	}
	return nil
}

func (a *app) restore(ctx context.Context, r restoring) error {
	if r.name == "" {
		return fail("expected the new cluster's name: --to <name>, or --in-place. Nothing was written.").then("pgctrl restore --help")
	}
	if err := r.check(); err != nil {
		return err
	}
	l, err := a.read(ctx, append([]keys.Family{keys.Secrets, keys.Operations}, statusFamilies...)...)
	if err != nil {
		return err
	}
	if err := r.free(l); err != nil {
		return err
	}
	src, err := a.sourceOf(l, &r)
	if err != nil {
		return err
	}
	c, said, err := a.restoredDocuments(l, r, src)
	if err != nil {
		return err
	}
	if err := c.judge(l); err != nil {
		return err
	}
	if err := a.roomFor(ctx, l, r, src, c.writes); err != nil {
		return err
	}
	said[0] = fmt.Sprintf("%s of %s up to %s, from backup %s", said[0], r.from, r.moment(), src.backup.Label)
	if r.w.dryRun {
		a.say("would restore %s", said[0])
		for _, k := range sortedKeys(c.writes) {
			a.say("would write %s: %s", strings.TrimPrefix(k, l.layout.DesiredPrefix()), oneLine(c.writes[k]))
		}
		return exitCode(NotConverged)
	}
	if r.target.Type != operations.TargetImmediate { // which takes no WAL but the backup's own
		if err := a.archiveFirst(ctx, l, src); err != nil {
			return err
		}
	}
	return a.writeCluster(ctx, l, c, said, r.w.wait)
}

// moment is the target in words.
func (r *restoring) moment() string {
	switch r.target.Type {
	case operations.TargetLatest:
		return "everything it has"
	case operations.TargetImmediate:
		return "the end of the backup"
	}
	return string(r.target.Type) + " " + r.target.Value
}

// source is where the data come from.
type source struct {
	status status.ClusterStatus
	docs   *desired.Cluster
	formed observed.Formed
	store  string
	folder string // below the repository's path
	backup observed.Backup
	node   string // that has a local repository
}

// sourceOf finds the repository with the backup for the target.
func (a *app) sourceOf(l *live, r *restoring) (*source, error) {
	if err := l.cluster(r.from); err != nil {
		return nil, err
	}
	s := &source{status: status.Compute(a.input(l, r.from)), docs: desired.Load(l, l.layout, r.from)}
	if s.docs.Invalid("backup") { // it would be read as the defaults, which are another place
		return nil, fail("the document backup of %s can't be used. Nothing was written.", r.from).then("pgctrl status %s", r.from)
	}
	formed, ok := observed.Read[observed.Formed](l, l.layout.FormedKey(r.from))
	if !ok || !s.docs.Backup.On() {
		return nil, fail("cluster %s has no backups: %s. Nothing was written.", r.from,
			map[bool]string{true: "its document backup says enabled: false", false: "it has not formed"}[ok]).then("pgctrl backup list %s", r.from)
	}
	rec, _ := observed.Read[observed.Store](l, l.layout.StoreKey())
	s.formed, s.store, s.folder = formed, rec.Incarnation, plan.BackupFolder(r.from, formed.UID)
	local := s.docs.Backup.Repository == desired.RepositoryLocal
	var best error
	for _, m := range s.leaderFirst() {
		report, ok := observed.Read[observed.Report](l, l.layout.ObservedKey(m.Node, r.from, "backup"))
		if !ok || report.Repository == nil || !report.Of(formed.UID) {
			continue
		}
		if at := s.docs.Backup.Where(s.folder); report.Repository.Where != at {
			// The document names another place than was looked at, and where the backups are
			// is taken from the document.
			best = cmp.Or(best, fmt.Errorf("the agent of node %s has not said yet what %s holds, only %s", m.Node, at, report.Repository.Where))
			continue
		}
		b, err := operations.Pick(report.Repository, r.target, a.deps.Now())
		if err != nil {
			if best == nil {
				best = err
			}
			continue
		}
		s.backup, s.node = b, m.Node
		if !local {
			return s, nil
		}
		if i := slices.Index(r.on, m.Node); i >= 0 {
			r.on = slices.Insert(slices.Delete(r.on, i, i+1), 0, m.Node)
			return s, nil
		}
		// Another node may have older ones, of before a failover; this one has what was asked.
		best = fmt.Errorf("the backups of %s are in a folder of node %s, and are restored there only", r.from, m.Node)
		break
	}
	if best == nil {
		best = errors.New("no agent of " + r.from + " has said yet what its repository holds")
	}
	e := fail("%s. Nothing was written.", best).then("pgctrl backup list %s", r.from)
	if s.node != "" {
		e = e.then("pgctrl restore %s --to %s --on %s", r.from, r.name, s.node)
	}
	return nil, e
}

// leaderFirst are the members, the one that leads before the others.
func (s *source) leaderFirst() []status.Member {
	ms := slices.Clone(s.status.Members)
	slices.SortStableFunc(ms, func(x, y status.Member) int {
		switch s.status.Leader {
		case x.Name:
			return -1
		case y.Name:
			return 1
		}
		return 0
	})
	return ms
}
