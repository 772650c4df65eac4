package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// order is in which concerns are applied (DESIGN section 5); unknown ones come last.
var order = []string{"postgres", "pgbouncer", "haproxy", "vip", "databases", "dns", "backup", "log", "monitor"}

func byOrder(a, b string) int {
	place := func(s string) int {
		if i := slices.Index(order, s); i >= 0 {
			return i
		}
		return len(order)
	}
	if d := place(a) - place(b); d != 0 {
		return d
	}
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// concern is one plan: the last good one, and how far the host is with it. The
// cluster's mu guards what other goroutines read; only the worker writes.
type concern struct {
	name string
	// plan is the last good plan and rev its mod revision; newest is the revision of
	// the newest plan seen, which refusal says is unusable when it is not plan.
	plan    plan.Plan
	rev     int64
	newest  int64
	inputs  int64
	refusal *observed.Condition
	kept    bool // from disk, not seen in etcd yet
	unsaved bool // not on disk, because the cluster is frozen or the disk full
	// notKept says that the disk did not take the plan; the worker's own.
	notKept *observed.Condition
	// disk is what is kept on disk; its Revision is 0 when nothing is.
	disk   kept
	freeze *freeze // the plan's, as the worker last found it; nil: not active
	// restored is the plan that an earlier run kept: its programs may be running, and
	// with that plan rather than with a newer one that has not been applied yet.
	restored *plan.Plan
	// loaded is the plan that was last applied as a whole; routes follow it, because
	// the running HAProxy has its servers.
	loaded *plan.Plan
	// applied holds the hash of each resource as last applied by this process.
	applied map[string]string
	// written holds the same of each file that follows the leader, also while it differs.
	written map[string]string
	// writtenKept is written as it is on disk; the worker's own.
	writtenKept map[string]string
	// prepared are the units that room was made for.
	prepared map[string]bool
	took     []string
	drifted  map[string]drifted // resource -> what differs, until repaired
	repairs  int
	repaired string
	fights   map[drift]*fight // how often each drift came back
	reset    bool             // HAProxy was reloaded: routes assert everything again
	report   observed.Report
	shown    shown // to clients that come with TLS
	// removed says what became of a removal, once all of it is done; empty before.
	removed string

	// thaws: a freeze is on, or over and not everything as planned since; thawedAt is
	// when it was found to be over. thaws is guarded by the cluster's mu.
	thaws    bool
	thawedAt time.Time

	waiting  bool      // for a secret; the worker's own
	received time.Time // when plan arrived; zero once it converged
	failing  map[string]*failure
}

// drifted is a resource that is not as it was made.
type drifted struct {
	what string
	hash string // of what it was made
}

// failure is a resource that the host refused, and when to try again.
type failure struct {
	cond    observed.Condition
	hash    string
	wait    *backoff.ExponentialBackOff
	retryAt time.Time
}

func newConcern(name string) *concern {
	return &concern{
		name: name, applied: map[string]string{}, written: map[string]string{}, prepared: map[string]bool{},
		drifted: map[string]drifted{}, failing: map[string]*failure{}, fights: map[drift]*fight{},
	}
}

// inForce is the plan that the running programs have, as far as is known.
func (con *concern) inForce() plan.Plan {
	switch {
	case con.loaded != nil:
		return *con.loaded
	case con.restored != nil:
		return *con.restored
	}
	return con.plan
}

// restore takes the plans that an earlier run kept.
func (c *cluster) restore(all map[string]kept) {
	for name, k := range all {
		con := newConcern(name)
		con.plan, con.rev, con.newest, con.inputs, con.kept = k.Plan, k.Revision, k.Revision, k.Plan.Inputs.Revision, true
		con.restored, con.removed, con.disk = &k.Plan, k.Removed, k
		con.writtenKept = c.a.keeper.loadWritten(c.name, name)
		maps.Copy(con.written, con.writtenKept)
		c.concerns[name] = con
		c.accept(k.Plan, k.Revision)
		c.vip.inForce(name, k.Plan)
	}
}

// accept takes from a plan what all concerns share. The caller holds mu, or is
// alone with the cluster.
func (c *cluster) accept(p plan.Plan, rev int64) {
	if rev >= c.infoRev || p.Store != c.store {
		c.info, c.infoRev, c.uid, c.store = p.Cluster, rev, p.UID, p.Store
	}
}

// received notes a plan event; the worker looks at it. False: this cluster has just
// ended, because nothing of it was left on the host.
func (c *cluster) received(concern string, ch store.Change) bool {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return false
	}
	if ch.New != nil {
		c.arrived[concern] = *ch.New
		delete(c.gone, concern)
	} else {
		c.gone[concern] = true // R6: means keep
		delete(c.arrived, concern)
	}
	c.mu.Unlock()
	poke(c.wakeWork)
	if ch.New == nil {
		c.log.Warn("plan key is gone; the last plan is kept", zap.String("concern", concern), zap.String("key", ch.Key))
	}
	return true
}

// take looks at the plans that arrived since the last call, the newest first, so
// that with nothing kept the newest one says which cluster this is.
func (c *cluster) take() {
	c.mu.Lock()
	var es []kv.KV
	byKey := map[string]string{}
	for name, e := range c.arrived {
		byKey[e.Key] = name
		es = append(es, e)
	}
	clear(c.arrived)
	c.mu.Unlock()
	slices.SortFunc(es, func(a, b kv.KV) int { return int(b.ModRevision - a.ModRevision) })
	if c.bornAgain(es, byKey) {
		return
	}
	byFile := c.frozen() != nil
	for _, e := range es {
		c.takeOne(byKey[e.Key], e, byFile)
	}
	if len(es) > 0 {
		poke(c.wakeRoutes)
		poke(c.sql.wake)
		poke(c.logins.wake)
		poke(c.wakeConfirm)
		poke(c.wakeLocal)
		poke(c.wakePool)
	}
}

func (c *cluster) takeOne(name string, e kv.KV, byFile bool) {
	c.mu.Lock()
	con := c.concerns[name]
	if con == nil {
		con = newConcern(name)
	}
	uid, incarnation := c.uid, c.store
	c.mu.Unlock()
	log := c.log.With(zap.String("concern", name), zap.String("key", e.Key), zap.Int64("revision", e.ModRevision))
	p, refusal := c.judge(e, con, uid, incarnation)
	if refusal == nil && (con.kept || e.ModRevision != con.rev) {
		c.keepPlan(con, kept{Revision: e.ModRevision, Plan: p}, byFile || p.Freeze.Active(time.Now()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.concerns[name] = con
	con.newest, con.refusal = e.ModRevision, refusal
	if refusal != nil {
		log.Warn("plan refused; the last good one stays", zap.String("reason", string(refusal.Reason)), zap.String("message", refusal.Message))
		return
	}
	if con.kept && e.ModRevision == con.rev {
		con.kept = false
		return // what disk said
	}
	old := con.inForce()
	same := plan.Hash(p.Resources, p.Secrets) == plan.Hash(old.Resources, old.Secrets)
	con.plan, con.rev, con.inputs, con.kept, con.removed = p, e.ModRevision, p.Inputs.Revision, false, ""
	con.received = time.Now()
	switch { // the host has it already; only what surrounds it changed
	case same && con.loaded != nil:
		con.loaded = &p
	case same && con.restored != nil:
		con.restored = &p
	}
	clear(con.failing) // a newer plan is tried at once
	c.accept(p, e.ModRevision)
	log.Info("plan received", zap.Int64("inputs", p.Inputs.Revision), zap.Int("resources", len(p.Resources)))
}

// keepPlan puts a plan on disk, for a start without etcd. A frozen one is not what
// the programs run with, so it waits until the host may have it; that it is frozen
// is kept with the old one.
func (c *cluster) keepPlan(con *concern, k kept, frozen bool) {
	before := con.notKept
	con.unsaved, con.notKept = frozen, nil
	if frozen {
		if con.disk.Revision == 0 || k.Plan.Freeze.Same(con.disk.Plan.Freeze) {
			return
		}
		freeze := k.Plan.Freeze
		k = con.disk
		k.Plan.Freeze = freeze
	}
	err := c.a.keeper.save(c.name, con.name, k)
	if err == nil {
		con.disk = k
		return
	}
	// What is in force is the newer plan all the same: the host's files are swapped by
	// their driver, which looks for room by itself.
	dir := c.a.keeper.folder(c.name)
	con.unsaved, con.notKept = true, &observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.NotKept,
		Message: fmt.Sprintf("the plan can't be put into %s (%s); a start without etcd would use an older one", dir, cause(err)),
		Next:    fmt.Sprintf("df -h %s (on %s)", dir, c.a.o.Node),
	}
	if before == nil {
		c.log.Error("plan not kept on disk; a start without etcd would use an older one",
			zap.String("concern", con.name), zap.Int64("revision", k.Revision), zap.Error(err))
	}
}

// cause is the operating system's word, without the names of temporary files: what
// is reported must not differ from one attempt to the next (R8).
func cause(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// judge reads a plan and says why it can't be used. What is in force stays then
// (R4), and the report answers the new revision with the reason.
func (c *cluster) judge(e kv.KV, con *concern, uid, keptIn string) (plan.Plan, *observed.Condition) {
	rec, _ := c.a.store.store()
	now := rec.Incarnation
	no := func(r observed.Reason, msg, next string) (plan.Plan, *observed.Condition) {
		return plan.Plan{}, &observed.Condition{Type: observed.Applied, Status: observed.False, Reason: r, Message: msg, Next: next, Key: e.Key}
	}
	if len(e.Value) > plan.MaxSize {
		return no(observed.PlanTooLarge, fmt.Sprintf("the plan has %d bytes, at most %d are taken", len(e.Value), plan.MaxSize), "")
	}
	if why := c.a.store.changed(); why != nil {
		return no(why.Reason, why.Message, why.Next)
	}
	p, err := plan.Decode(e.Value)
	forget := fmt.Sprintf("systemctl stop pgagent && rm -r %s && systemctl start pgagent   # if this etcd is meant", c.a.keeper.folder(c.name))
	switch {
	case errors.Is(err, plan.ErrSchema):
		return no(observed.UnsupportedSchema, err.Error(), "upgrade pgagent on this node")
	case err != nil:
		return no(observed.UnsupportedSchema, "the plan can't be read: "+err.Error(), "")
	case p.Cluster.Name != c.name:
		return no(observed.UnsupportedSchema, fmt.Sprintf("the plan is for cluster %q", p.Cluster.Name), "")
	case keptIn != "" && p.Store != keptIn && (p.Store != now || !rec.Stands(keptIn)):
		return no(observed.StoreChanged, fmt.Sprintf("the plan belongs to etcd incarnation %s, this host to %s", p.Store, keptIn), forget)
	case now != "" && p.Store != now:
		return no(observed.StoreChanged, fmt.Sprintf("the plan belongs to etcd incarnation %s, etcd is %s", p.Store, now), "")
	case uid != "" && p.UID != uid:
		return no(observed.StoreChanged, fmt.Sprintf("the plan belongs to cluster uid %s, this host to %s", p.UID, uid), forget)
	case e.ModRevision < con.rev && p.Store == con.plan.Store:
		return no(observed.StoreChanged, fmt.Sprintf("the plan has revision %d, one of revision %d was acted on", e.ModRevision, con.rev), forget)
	}
	return p, nil
}
