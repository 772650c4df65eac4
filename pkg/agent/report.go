package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// submit composes a concern's report and hands it to the reporter. A stale view
// makes none: its conditions would be about this agent's link to etcd, and by the
// time etcd could be told they are no longer true. It is made once the view is fresh.
func (c *cluster) submit(con *concern, conds []observed.Condition, s state, now time.Time) {
	say := fresh(s.view, now) || s.back || c.foreign()
	shown := c.shownBy(con)
	c.mu.Lock()
	con.shown = shown
	r := c.composeLocked(con, conds, s, now)
	con.report = r
	c.unsaid = c.unsaid || !say
	c.mu.Unlock()
	if say {
		c.a.reports.submit(c.a.o.Layout.ObservedKey(c.a.o.Node, c.name, con.name), r)
	}
}

// composeLocked writes one report: a single Applied condition, the worst of all,
// and whatever else there is to say.
func (c *cluster) composeLocked(con *concern, conds []observed.Condition, s state, now time.Time) observed.Report {
	r := observed.Report{
		Schema: observed.Schema, Writer: c.a.o.Version, Concern: con.name, UID: con.plan.UID,
		Plan: con.newest, Inputs: con.inputs, Facts: map[string]string{},
	}
	if con.loaded != nil && con.loaded.Removal == nil {
		r.Loaded = plan.Hash(con.loaded.Resources, con.loaded.Secrets)
	}
	applied := observed.Condition{Type: observed.Applied, Status: observed.True}
	if con.refusal != nil {
		conds = append(slices.Clone(conds), *con.refusal)
	}
	for _, cond := range conds {
		if cond.Type == observed.Applied {
			applied = worse(applied, cond)
		} else {
			r.Conditions = append(r.Conditions, cond)
		}
	}
	if con.removed != "" && !applied.Bad() {
		applied.Reason, applied.Message = observed.Removed, con.removed
	}
	r.Conditions = append(r.Conditions, applied)
	if c.gone[con.name] {
		r.Conditions = append(r.Conditions, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.Unmanaged,
			Message: "the plan key is gone; the last plan is kept in force",
		})
	}
	if con.name == "postgres" && con.removed == "" {
		own, _ := c.info.Own()
		r.Conditions = append(r.Conditions, leaderConditions(s, own, now)...)
		if c.why != nil {
			r.Conditions = append(r.Conditions, *c.why)
		}
		if c.altered != "" {
			r.Conditions = append(r.Conditions, altered(c.name, own, c.altered))
		}
		con.reportCertificate(&r, own, now)
		if c.replication != "" {
			r.Facts[observed.FactReplication] = c.replication
		}
		if c.replication == observed.ReplicationWaiting && c.recoveryTimeline > 0 {
			r.Facts[observed.FactRecoveryTimeline] = strconv.FormatInt(c.recoveryTimeline, 10)
		}
		if t := c.forkedLocked(); t > 0 {
			r.Facts[observed.FactForked] = strconv.FormatInt(t, 10)
		}
	}
	if con.name == vipConcern {
		c.vip.reportLocked(&r)
	}
	if con.name == databasesConcern && con.removed == "" {
		c.sql.reportLocked(&r, con)
		c.logins.reportLocked(&r)
	}
	if con.name == backupConcern && con.removed == "" {
		c.backups.reportLocked(&r)
	}
	if con.name == poolerConcern && con.removed == "" {
		c.reportPooler(&r)
	}
	c.factsLocked(con, &r)
	observed.Sort(r.Conditions)
	return r
}

// altered says that somebody went past the documents. Nothing is undone: what a person
// set by hand on a running database may be what keeps it running.
func altered(cluster string, own plan.Member, names string) observed.Condition {
	first, _, _ := strings.Cut(names, ", ")
	return observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.AlteredByHand,
		Message: fmt.Sprintf("on %s ALTER SYSTEM set %s; that wins over the documents there", own.Name, names),
		Next:    fmt.Sprintf(`psql -c "alter system reset %s" -c "select pg_reload_conf()" (as postgres on %s)`, first, own.Node),
	}
}

// worse prefers False to Unknown to True, and what came first among equals.
func worse(a, b observed.Condition) observed.Condition {
	bad := map[observed.Status]int{observed.True: 0, observed.Unknown: 1, observed.False: 2}
	if bad[b.Status] > bad[a.Status] {
		return b
	}
	return a
}

// factsLocked adds what the host showed: where clients go, which version of the
// program runs, what was taken over and repaired.
func (c *cluster) factsLocked(con *concern, r *observed.Report) {
	var programs map[string]string
	if p := c.a.programs.Load(); p != nil {
		programs = *p
	}
	for _, res := range con.plan.Resources {
		u, ok := res.(plan.Unit)
		if !ok {
			continue
		}
		if v := programs[u.Program]; v != "" {
			r.Facts["version."+u.Program] = v
		}
		if len(u.Routes) == 0 {
			continue
		}
		if c.heldRoute != nil {
			r.Conditions = append(r.Conditions, c.heldRoute.condition(c.a.o.Node))
		}
		for k, v := range c.facts {
			if strings.HasPrefix(k, "route.") {
				r.Facts[k] = v
			}
		}
		if err := c.asserted[u.Unit].err; err != nil {
			r.Conditions = append(r.Conditions, observed.Condition{
				Type: observed.Healthy, Status: observed.Unknown, Reason: observed.NotAnswering,
				Message: "routes can't be asserted: " + err.Error(),
			})
		}
	}
	if len(con.took) > 0 {
		r.Facts["taken-over"] = strings.Join(con.took, "; ")
	}
	if con.repaired != "" {
		r.Facts["repaired"] = con.repaired
	}
}

// reporter writes reports to etcd: only what changed, at most once per key and
// ReportEvery, and never over a write it has not seen.
type reporter struct {
	a    *Agent
	wake chan struct{}

	mu      sync.Mutex
	pending map[string][]byte
	written map[string]*writtenReport
}

// writtenReport is a report key as this process knows it.
type writtenReport struct {
	known bool
	rev   int64
	value []byte
	next  time.Time // not before
}

func newReporter(a *Agent) *reporter {
	return &reporter{a: a, wake: make(chan struct{}, 1), pending: map[string][]byte{}, written: map[string]*writtenReport{}}
}

func (r *reporter) submit(key string, rep observed.Report) {
	value := observed.Encode(rep)
	r.mu.Lock()
	w := r.written[key]
	if w == nil {
		w = &writtenReport{}
		r.written[key] = w
	}
	if w.known && bytes.Equal(w.value, value) {
		delete(r.pending, key) // changed and changed back meanwhile
	} else {
		r.pending[key] = value
	}
	r.mu.Unlock()
	poke(r.wake)
}

// forget makes the reporter know nothing of a key that is being deleted.
func (r *reporter) forget(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, key)
	delete(r.written, key)
}

func (r *reporter) run(ctx context.Context) {
	client, ok := r.a.admittedClient(ctx)
	if !ok {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
		if wait := r.flush(ctx, client); wait > 0 {
			timer.Reset(wait)
		}
	}
}

// flush writes what is due and returns when the next write is; 0 when none is.
func (r *reporter) flush(ctx context.Context, client *store.Client) time.Duration {
	if r.a.usurped.Load() {
		return time.Second
	}
	r.mu.Lock()
	keys := slices.Sorted(maps.Keys(r.pending))
	r.mu.Unlock()
	var next time.Duration
	for _, key := range keys {
		r.mu.Lock()
		value, w := r.pending[key], r.written[key]
		if w == nil {
			r.mu.Unlock()
			continue // forgotten since
		}
		was, wait := *w, time.Until(w.next)
		if wait <= 0 {
			delete(r.pending, key)
		}
		r.mu.Unlock()
		if wait <= 0 && value != nil {
			wait = r.write(ctx, client, key, value, was)
		}
		if wait > 0 && (next == 0 || wait < next) {
			next = wait
		}
	}
	return next
}

// write puts one report, guarded by the revision this process saw last: a write
// of an older process that is still on its way can't undo a newer one. It returns
// when to try again; 0 when there is nothing left to do. w is what is known of the key.
func (r *reporter) write(ctx context.Context, client *store.Client, key string, value []byte, w writtenReport) time.Duration {
	err := func() error {
		if !w.known {
			e, found, err := client.Get(ctx, key)
			if err != nil {
				return err
			}
			w.known, w.rev, w.value = true, 0, nil
			if found {
				w.rev, w.value = e.ModRevision, e.Value
			}
		}
		if bytes.Equal(w.value, value) {
			return nil
		}
		rev, err := client.Commit(ctx, []store.Guard{store.ModIs(key, w.rev)}, []store.Op{store.Put(key, value)})
		if err == nil {
			w.rev, w.value = rev, value
			r.a.metrics.reports.WithLabelValues("written").Inc()
		}
		return err
	}()
	pause := ReportEvery
	result := ""
	switch {
	case errors.Is(err, store.ErrConflict):
		w.known, pause, result = false, time.Second, "conflict"
	case errors.Is(err, store.ErrNoSpace):
		pause, result = fullPause, "full"
	case err != nil:
		w.known, pause, result = false, time.Second, "error"
	}
	r.a.wrote(err)
	w.next = time.Now().Add(pause)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.written[key] == nil {
		return 0 // forgotten meanwhile, and not to come back
	}
	r.written[key] = &w
	if err == nil {
		if _, more := r.pending[key]; more {
			return pause
		}
		return 0
	}
	if _, newer := r.pending[key]; !newer {
		r.pending[key] = value
	}
	r.a.metrics.reports.WithLabelValues(result).Inc()
	if ctx.Err() == nil && !errors.Is(err, store.ErrNoSpace) {
		r.a.log.Warn("report not written", zap.String("key", key), zap.Error(err))
	}
	return pause
}
