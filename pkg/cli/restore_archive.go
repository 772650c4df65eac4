package cli

import (
	"context"
	"time"

	"github.com/pgctrl/pgctrl/pkg/operations"
)

// archiveFirst has the other cluster archive what it wrote up to now, so that the newest
// moment is in the repository. Without a primary, or a server, what is there has to do.
func (a *app) archiveFirst(ctx context.Context, l *live, s *source) error {
	if s.status.Primary == "" || s.status.Controller == "" {
		a.note("%s has no primary or no server that could archive its newest writes; what is in the repository is restored", s.status.Cluster)
		return nil
	}
	o := operation{cluster: s.status.Cluster, status: s.status, docs: s.docs, formed: s.formed, store: s.store}
	t, err := a.ask(ctx, l, o, operations.NewArchive(a.asked(o)))
	if err != nil {
		return err
	}
	f, err := a.follow(ctx)
	if err != nil {
		return err
	}
	defer f.stop()
	last, _, err := a.watchTask(ctx, f, t, operations.ArchiveWithin+time.Minute)
	if err != nil || last.State == operations.Done {
		return err
	}
	return a.concludeTask(last)
}
