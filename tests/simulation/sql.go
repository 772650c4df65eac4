package simulation

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

var _ agent.SQLObjects = (*sqlObjects)(nil)

// sqlObjects are what is inside the host's PostgreSQL: refused by one that takes no
// writes, and on the others at once by replication.
type sqlObjects struct {
	*rig
	epoch plan.Epoch
}

// Close implements agent.SQLObjects.
func (o *sqlObjects) Close() {}

// Logins implements agent.SQLObjects: what one has, all have.
func (o *sqlObjects) Logins(_ context.Context, _ plan.Member, roles []plan.Role) (map[string]string, error) {
	out := map[string]string{}
	for _, r := range roles {
		out[r.Name] = "1"
	}
	return out, nil
}

// Converge implements agent.SQLObjects.
func (o *sqlObjects) Converge(_ context.Context, _ plan.Member, r plan.SQL, at plan.Epoch, how plan.SQLRun) (out plan.SQLResult, err error) {
	if at < o.epoch {
		return out, plan.ErrStale
	}
	o.epoch = at
	still := how.Still()
	return out, o.locked(func() error {
		want := fmt.Sprint(r)
		switch {
		case o.h.pat.pg != pgPrimary:
			return errors.New("cannot execute ALTER ROLE in a read-only transaction")
		case o.h.sql == want:
			return nil
		case !how.Repair:
			out.Differs = map[string]string{r.ID(): "differs"}
			return nil
		case !still:
			return plan.ErrStale
		}
		for _, h := range o.h.w.hosts {
			h.sql = want
		}
		out.Changed = map[string]string{r.ID(): "made"}
		return nil
	})
}
