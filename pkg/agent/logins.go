package agent

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	// loginsEvery is how often this node's PostgreSQL is asked for a role that it does
	// not have as planned: it is being made on the primary, or not replayed yet.
	loginsEvery = 250 * time.Millisecond
	// loginsSoon is how long that takes at most where nothing stands still or replays late
	// on purpose; after that it is asked for every loginsLate.
	loginsSoon = 10 * time.Second
	loginsLate = 2 * time.Second
	// loginsSettle is how long it must have been reported that a role is let in before it is
	// called settled. Somebody may have read the other's password just before, and logs in
	// with that.
	loginsSettle = 5 * time.Second
	// loginsAnyway is how often it is asked for what it had: another may be in its place
	// since, copied from a leader that knows less.
	loginsAnyway = time.Minute
)

// logins finds out which of pgctrl's own roles this node's PostgreSQL lets in, a replica's
// too: programs here must not log in as a role before it does. No position in the WAL says
// it as well: after a failover the same position may be of another history.
type logins struct {
	c    *cluster
	wake chan struct{}

	// The cluster's mu guards the rest.
	said string // a value of observed.FactLogins
	// asked is what is asked for, since when, and next when to ask again.
	asked string
	since time.Time
	next  time.Time
	// shown is since when each login is in a report, zero while it is not: this agent may be
	// busy for seconds. What it found when it started was so before.
	shown map[string]time.Time
}

func newLogins(c *cluster) *logins { return &logins{c: c, wake: make(chan struct{}, 1)} }

func (w *logins) run(ctx context.Context) {
	if w.c.drivers.SQL == nil {
		return
	}
	again(ctx, w.wake, w.once)
}

// once asks if it is time, and says when to look again.
func (w *logins) once(ctx context.Context) time.Duration {
	c := w.c
	c.mu.Lock()
	con := c.concerns[databasesConcern]
	if con == nil {
		c.mu.Unlock()
		return sqlIdle
	}
	p, since, running := con.plan, c.state.view.Leader.Since, c.proofs.Local.Reachable
	if c.watcher != nil {
		running = c.watcher.Last().Reachable
	}
	asked := plan.Hash(p.Resources, p.Secrets) + since.String()
	now := time.Now()
	wait := w.next.Sub(now)
	if w.asked != asked {
		w.asked, w.since, wait = asked, now, 0
	}
	began := w.since
	c.mu.Unlock()
	roles := systemRoles(p)
	switch own, member := p.Cluster.Own(); {
	case len(roles) == 0 || !member:
		return sqlIdle
	case wait > 0:
		return wait
	case !running:
		return c.a.o.Beat.Next(now, time.Second)
	case c.secrets.ensure(ctx, c.secretSource(), p.Secrets) != nil:
		return secretRetry
	default:
		return w.ask(ctx, own, p, roles, began)
	}
}

func (w *logins) ask(ctx context.Context, own plan.Member, p plan.Plan, roles []plan.Role, began time.Time) time.Duration {
	c := w.c
	part, cancel := context.WithTimeout(ctx, ApplyTimeout)
	defer cancel()
	marks, err := c.drivers.SQL.Logins(part, own, roles)
	if err != nil {
		c.log.Debug("PostgreSQL was not asked who may log in", zap.Error(err))
		return time.Second
	}
	var said []string
	now, settles := time.Now(), loginsAnyway
	c.mu.Lock()
	before := maps.Clone(w.shown)
	c.mu.Unlock()
	shown := map[string]time.Time{}
	for _, r := range roles {
		switch mark, is := marks[r.Name]; {
		case !is:
		case r.Password == "":
			said = append(said, observed.LoginClosed(r.Name))
		default:
			login := observed.Login(r.Name, p.Secrets[r.Password], mark)
			at := before[login]
			if before == nil {
				at = now.Add(-loginsSettle)
			}
			shown[login] = at
			switch left := loginsSettle - now.Sub(at); {
			case at.IsZero():
				settles = min(settles, loginsSettle)
			case left > 0:
				settles = min(settles, left)
			default:
				login = observed.LoginSettled(login)
			}
			said = append(said, login)
		}
	}
	next := loginsEvery
	switch {
	case len(said) == len(roles):
		next = settles
	case now.Sub(began) > loginsSoon:
		next = loginsLate
	}
	text := strings.Join(said, " ")
	c.mu.Lock()
	news := w.said != text
	w.said, w.shown, w.next = text, shown, now.Add(next)
	c.mu.Unlock()
	if news {
		poke(c.wakeWork) // the report says so
	}
	return next
}

// reportLocked adds the fact.
func (w *logins) reportLocked(r *observed.Report) {
	for login, at := range w.shown {
		if at.IsZero() {
			w.shown[login] = time.Now()
		}
	}
	if w.said != "" {
		r.Facts[observed.FactLogins] = w.said
	}
}

// systemRoles are those of the plan that no document describes.
func systemRoles(p plan.Plan) []plan.Role {
	sql, _ := plan.SQLOf(p)
	return slices.DeleteFunc(slices.Clone(sql.Roles), func(r plan.Role) bool {
		return r.Key != "" || r.Absent || r.Password == "" && !r.NoPassword
	})
}
