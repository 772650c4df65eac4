package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// order is the backup that the step asks for, from whom it is copied included.
func (s *stepper) order(ctx context.Context) BackupOrder {
	o := BackupOrder{Step: s.id, Type: s.Backup, Keep: s.Keep, From: s.Member}
	if !s.Standby {
		return o
	}
	s.mu.Lock()
	view, members := s.lookLocked().view, s.info.Members
	s.mu.Unlock()
	for _, m := range sources(view, s.Member, members) {
		err := s.a.o.Host.BackupRuns.Reach(ctx, s.name, m)
		if err == nil {
			o.From, o.Address = m.Name, m.Address
			return o
		}
		s.log.Warn("the backup is not copied from this replica", zap.String("member", m.Name), zap.Error(fmt.Errorf("reach pgBackRest's server on %s: %w", m.Address, err)))
	}
	s.log.Info("no replica can be copied from, so the backup is copied from the primary", zap.String("step", s.id))
	return o
}

// sources are the members other than the primary that stream, as far as their Patroni says (3.0
// says nothing of it), the one that has replayed most first: a backup waits until it has reached
// the backup's own beginning.
func sources(v plan.View, primary string, members []plan.Member) (out []plan.Member) {
	for _, m := range members {
		key, there := v.Members[m.Name]
		streams := key.Replication == "" || key.Replication == "streaming"
		if there && m.Name != primary && m.Address != "" && key.Role == patroni.Replica && key.Running() && streams {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b plan.Member) int {
		return cmp.Compare(replayed(v.Members[b.Name]), replayed(v.Members[a.Name]))
	})
	return out
}

// replayed is how far a replica is, by the one or the other position that its Patroni gives.
func replayed(m patroni.Member) int64 { return cmp.Or(m.ReplayLSN, m.XLogLocation) }
