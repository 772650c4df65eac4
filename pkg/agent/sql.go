package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// databasesConcern is the concern whose plan has SQL objects.
const databasesConcern = "databases"

const (
	// SQLEvery is how often what is in the databases is compared with the plan: R9 wants
	// drift repaired within ten seconds, and PostgreSQL tells nobody of it.
	SQLEvery = 5 * time.Second
	// sqlAnswer is how long a report on a new plan is held back for its answer, which
	// usually takes milliseconds: a report is written at most every ReportEvery.
	sqlAnswer = 2 * time.Second
	// sqlIdle is the pause while there is nothing to do; a plan and the leader wake it.
	sqlIdle = time.Hour
)

// SQLObjects makes what is in a cluster's databases so.
type SQLObjects interface {
	// Converge goes through everything once, on this node's own member. What is refused
	// of one object is among the result's problems and holds up no other; the error is
	// about PostgreSQL as a whole, or plan.ErrStale.
	Converge(ctx context.Context, own plan.Member, r plan.SQL, at plan.Epoch, how plan.SQLRun) (plan.SQLResult, error)
	// Logins finds those of the roles that this node's own member has as they are to be,
	// as far as logging in goes; also a replica is asked, for what it has replayed. Each
	// has a mark that tells one making of it from another.
	Logins(ctx context.Context, own plan.Member, roles []plan.Role) (map[string]string, error)
	// Close gives up what is kept open.
	Close()
}

// sqlWork makes SQL objects while this node's member is the confirmed primary. It has
// a goroutine of its own, because a statement may wait for a lock of somebody else and
// nothing on the host is to wait for that.
type sqlWork struct {
	c    *cluster
	wake chan struct{}

	// The cluster's mu guards the rest.
	done sqlDone
}

// sqlDone is the last time that everything was gone through, in one leadership.
type sqlDone struct {
	hash   string
	since  time.Time // the leadership's
	next   time.Time
	result plan.SQLResult
	err    error
	frozen *freeze
}

func newSQLWork(c *cluster) *sqlWork { return &sqlWork{c: c, wake: make(chan struct{}, 1)} }

func (w *sqlWork) run(ctx context.Context) {
	if w.c.drivers.SQL == nil {
		return
	}
	defer w.c.drivers.SQL.Close()
	again(ctx, w.wake, w.once)
}

// once goes through everything if it is this agent's turn and it is time, and says
// when to look again.
func (w *sqlWork) once(ctx context.Context) time.Duration {
	c := w.c
	c.mu.Lock()
	con := c.concerns[databasesConcern]
	if con == nil {
		c.mu.Unlock()
		return sqlIdle
	}
	p, s, local, done, foreign := con.plan, c.lookLocked(), c.proofs.Local, w.done, c.foreignLocked()
	if c.watcher != nil {
		local = c.watcher.Last()
	}
	c.mu.Unlock()
	now := time.Now()
	sql, has := plan.SQLOf(p)
	apply, _, _ := plan.Resolve(p, s.view, now)
	if !has || len(apply) == 0 || foreign || c.a.usurped.Load() || c.a.store.changed() != nil {
		w.forget(s.view, p)
		return c.a.o.Beat.Next(now, SQLEvery)
	}
	if !local.TakesWrites(s.initialize) {
		return ProofFor // the confirmation is somebody else's word, or about to be withdrawn
	}
	hash := plan.Hash(p.Resources, p.Secrets)
	again := done.hash == hash && done.since.Equal(s.view.Leader.Since)
	switch {
	case again && now.Before(done.next):
		return done.next.Sub(now)
	case !again && done.hash == "" && con.loaded != nil && now.Before(s.view.Leader.Since.Add(SettleAfterMove)):
		// Nothing new, only a new primary, and at this moment all clients log in to it.
		return s.view.Leader.Since.Add(SettleAfterMove).Sub(now)
	}
	frozen := c.frozenConcern(con, p, now)
	next := w.through(ctx, con, p, sql, s, frozen, again)
	next.hash, next.since, next.frozen = hash, s.view.Leader.Since, frozen
	c.mu.Lock()
	w.done = next
	c.mu.Unlock()
	if !again || len(next.result.Changed) > 0 {
		poke(c.logins.wake)
	}
	if !again || !sameAnswer(done, next) {
		poke(c.wakeWork) // the report says so
	}
	return max(time.Until(next.next), time.Millisecond)
}

// through makes everything so once; again says that this very plan was made so before
// in this leadership, so that what differs is drift.
func (w *sqlWork) through(ctx context.Context, con *concern, p plan.Plan, sql plan.SQL, s state, frozen *freeze, again bool) sqlDone {
	c := w.c
	if err := c.secrets.ensure(ctx, c.secretSource(), p.Secrets); err != nil {
		return sqlDone{err: err, next: time.Now().Add(secretRetry)}
	}
	own, _ := p.Cluster.Own()
	at := s.view.Leader
	part, cancel := context.WithTimeout(ctx, ApplyTimeout)
	defer cancel()
	began := time.Now()
	result, err := c.drivers.SQL.Converge(part, own, sql, at.Epoch, plan.SQLRun{
		Repair: frozen == nil, Whole: !again,
		Hold: func(object string) bool { return c.heldBack(con, object) },
		Still: func() bool {
			c.mu.Lock()
			v := c.lookLocked().view
			c.mu.Unlock()
			return fresh(v, time.Now()) && v.Leader.Member == at.Member && v.Leader.Since.Equal(at.Since)
		},
	})
	now := time.Now()
	out := sqlDone{result: result, err: err, next: now.Add(c.a.o.Beat.Next(now, SQLEvery))}
	switch {
	case err != nil:
		out.next = now.Add(ProofFor)
		if ctx.Err() == nil && !errors.Is(err, plan.ErrStale) {
			c.log.Warn("SQL objects not made", zap.Int64("revision", con.rev), zap.Int64("epoch", int64(at.Epoch)), zap.Error(err))
		}
	case result.Retry > 0 && result.Retry < SQLEvery:
		out.next = now.Add(result.Retry)
	}
	for _, object := range slices.Sorted(maps.Keys(result.Changed)) {
		what := result.Changed[object]
		if !again {
			c.log.Info("SQL object made", zap.String("object", object), zap.String("did", what), zap.Duration("took", now.Sub(began)))
			continue
		}
		w.repaired(con, object, what, began, now)
	}
	w.left(con, result.Differs, began)
	return out
}

// heldBack reports an object that is fought over.
func (c *cluster) heldBack(con *concern, object string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := con.fights[drift{id: object}]
	return f != nil && f.hold(time.Now()) > 0
}

// repaired notes that drift of one object was undone (R9).
func (w *sqlWork) repaired(con *concern, object, what string, seen, now time.Time) {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	f := con.fight(drift{id: object}) // whatever differed: an object is fought over as a whole
	f.noticed(seen, time.Time{}, what)
	took := f.repaired(now)
	c.a.metrics.drift.WithLabelValues(con.name, object).Inc()
	c.a.metrics.repairTime.WithLabelValues(con.name).Observe(took.Seconds())
	con.noteRepair(object, what, f)
	c.log.Warn("SQL object drifted; repaired", zap.String("object", object), zap.String("did", what))
}

// left notes what differs and was left so, and that nothing else does any more.
func (w *sqlWork) left(con *concern, differs map[string]string, now time.Time) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	for d, f := range con.fights {
		if _, still := differs[d.id]; !still {
			f.since = time.Time{}
		}
	}
	for object, what := range differs {
		con.fight(drift{id: object}).noticed(now, time.Time{}, what)
	}
}

// forget drops what was found while this node's member led, once another one does.
func (w *sqlWork) forget(v plan.View, p plan.Plan) {
	if v.Leader.Member == p.Cluster.Member {
		return
	}
	w.c.mu.Lock()
	w.done = sqlDone{}
	w.c.mu.Unlock()
}

func sameAnswer(a, b sqlDone) bool {
	return fmt.Sprint(a.err, a.result.Problems, a.result.Differs, a.result.OtherRoles, a.result.OtherDatabases) ==
		fmt.Sprint(b.err, b.result.Problems, b.result.Differs, b.result.OtherRoles, b.result.OtherDatabases) && len(b.result.Changed) == 0
}

// answer is what there is to say of a plan's SQL objects as a whole; answered is false
// while nobody has gone through them.
func (w *sqlWork) answer(p plan.Plan) (cond observed.Condition, answered bool) {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	d := w.done
	cond = observed.Condition{Type: observed.Applied, Status: observed.False}
	switch {
	case d.hash != plan.Hash(p.Resources, p.Secrets) || !d.since.Equal(c.state.view.Leader.Since):
		cond.Reason, cond.Message = observed.NotApplied, "roles and databases are being made"
		return cond, false
	case errors.Is(d.err, errNoSecret):
		return waiting(d.err), true
	case d.err != nil:
		cond.Status, cond.Reason, cond.Message = observed.Unknown, observed.NotAnswering, d.err.Error()
		return cond, true
	case d.frozen != nil && len(d.result.Differs) > 0:
		cond.Reason, cond.Next = observed.Frozen, d.frozen.next(c.name, c.a.o.Node)
		cond.Message = fmt.Sprintf("%s is not as planned and is left so (%s) %s", "sql "+c.name, list(d.result.Differs), d.frozen.lasts())
		return cond, true
	}
	return plan.Condition(nil), true
}

func list(differs map[string]string) string {
	var out []string
	for _, object := range slices.Sorted(maps.Keys(differs)) {
		out = append(out, object+": "+differs[object])
	}
	return strings.Join(out, "; ")
}

// maxOthers is how many names of what nobody described are reported; no cluster that
// people look after has as many.
const maxOthers = 10000

// reportLocked adds what PostgreSQL refused, object by object, and what nobody described. The
// latter is about the plan that is answered: what an earlier one described is not among it, and
// that one is still in force when the newest is refused.
func (w *sqlWork) reportLocked(r *observed.Report, con *concern) {
	d := w.done
	if d.hash == "" || d.err != nil {
		return
	}
	r.Conditions = append(r.Conditions, d.result.Problems...)
	if con.refusal != nil || d.hash != plan.Hash(con.plan.Resources, con.plan.Secrets) {
		return
	}
	for fact, names := range map[string][]string{observed.FactOtherRoles: d.result.OtherRoles, observed.FactOtherDatabases: d.result.OtherDatabases} {
		r.Facts[fact] = strings.Join(names[:min(len(names), maxOthers)], " ")
	}
}

// clean reports that PostgreSQL refused nothing; what was decided when a database was
// made is no refusal.
func (w *sqlWork) clean() bool {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	return !anyBad(w.done.result.Problems, observed.Applied)
}

// TakesWrites reports whether the answer is of the system and not of a replica.
func (s PostgresState) TakesWrites(system string) bool {
	return s.Reachable && !s.InRecovery && s.System == system
}
