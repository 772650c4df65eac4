package agenttest

import (
	"context"
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

var _ agent.SQLObjects = sqlObjects{}

// SQL is what the fake PostgreSQL has of SQL objects: each by its ID, at the plan's words.
type SQL struct {
	// Objects is what each object was made of last, its password included.
	Objects map[string]string
	// Runs counts how often everything was gone through.
	Runs int
	// Lacks are the roles that were not replayed yet, Asked how often it was asked for them.
	Lacks map[string]bool
	Asked int
	// Epochs are those of the changes, in order.
	Epochs []plan.Epoch
}

// SQL returns what there is.
func (h *Host) SQL() SQL {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.sql
	out.Objects = map[string]string{}
	for id, s := range h.sql.Objects {
		out.Objects[id] = s
	}
	out.Epochs = append([]plan.Epoch(nil), h.sql.Epochs...)
	return out
}

// Replays says whether the host's PostgreSQL has a role as it is to be.
func (h *Host) Replays(role string, has bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sql.Lacks == nil {
		h.sql.Lacks = map[string]bool{}
	}
	h.sql.Lacks[role] = !has
}

// SlowSQL makes every look at the objects take that long, as a lock of somebody else does.
func (h *Host) SlowSQL(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slowSQL = d
}

// DriftSQL makes an object differ from what was made; a failure of it is set with Fail.
func (h *Host) DriftSQL(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sql.Objects[id] = "changed by hand"
}

type sqlObjects struct {
	h      *Host
	secret func(string) ([]byte, bool)
}

func (o sqlObjects) Close() {}

func (o sqlObjects) Logins(_ context.Context, _ plan.Member, roles []plan.Role) (map[string]string, error) {
	o.h.mu.Lock()
	defer o.h.mu.Unlock()
	o.h.sql.Asked++
	out := map[string]string{}
	for _, r := range roles {
		if !o.h.sql.Lacks[r.Name] {
			out[r.Name] = "1"
		}
	}
	return out, nil
}

func (o sqlObjects) Converge(ctx context.Context, own plan.Member, r plan.SQL, at plan.Epoch, how plan.SQLRun) (plan.SQLResult, error) {
	want := map[string]string{}
	var order []string
	for _, role := range r.Roles {
		password, ok := o.secret(role.Password)
		if role.Password != "" && !ok {
			return plan.SQLResult{}, fmt.Errorf("no secret %s", role.Password)
		}
		want[role.ID()] = fmt.Sprintf("%+v %s", role, password)
		order = append(order, role.ID())
	}
	for _, d := range r.Databases {
		want[d.ID()] = fmt.Sprintf("%+v", d)
		order = append(order, d.ID())
	}
	out := plan.SQLResult{Changed: map[string]string{}, Differs: map[string]string{}}
	o.h.mu.Lock()
	o.h.sql.Runs++
	slow := o.h.slowSQL
	if err := o.h.fail[r.ID()]; err != nil {
		o.h.mu.Unlock()
		return out, err
	}
	o.h.mu.Unlock()
	if slow > 0 && !idle.For(ctx, slow) {
		return out, ctx.Err()
	}
	for _, id := range order {
		o.h.mu.Lock()
		now, err := o.h.sql.Objects[id], o.h.fail[id]
		o.h.mu.Unlock()
		switch {
		case now == want[id]:
		case err != nil:
			out.Problems = append(out.Problems, observed.Condition{
				Type: observed.Applied, Status: observed.False, Reason: observed.Rejected, Key: id, Message: err.Error(), Next: "look",
			})
		case !how.Repair || how.Hold(id):
			out.Differs[id] = "differs"
		case !how.Still():
			return out, plan.ErrStale
		default:
			o.h.mu.Lock()
			if o.h.sql.Objects == nil {
				o.h.sql.Objects = map[string]string{}
			}
			o.h.sql.Objects[id], out.Changed[id] = want[id], "made"
			o.h.sql.Epochs = append(o.h.sql.Epochs, at)
			o.h.mu.Unlock()
		}
	}
	return out, nil
}
