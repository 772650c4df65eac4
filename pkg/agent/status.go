package agent

import (
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Status is what the agent holds and believes, and why. It is answered from
// memory, so it works with etcd away. Ages are in seconds; a negative one means
// that there is no such proof.
type Status struct {
	Node      string   `json:"node"`
	Version   string   `json:"version"`
	Address   string   `json:"address"`
	Endpoints []string `json:"endpoints"`
	Uptime    float64  `json:"uptime_seconds"`
	// Speaks: the agent reached etcd and the node's name is its own.
	Speaks bool `json:"speaks"`
	// Announced: the presence key is in etcd.
	Announced bool `json:"announced"`
	// Problem is why it does not.
	Problem     string `json:"problem,omitempty"`
	Incarnation string `json:"store,omitempty"`
	// Distrust is why nothing is taken from the etcd at hand; Trusted the store as it
	// was last trusted.
	Distrust *observed.Condition `json:"distrust,omitempty"`
	Trusted  *observed.StoreSeen `json:"trusted_store,omitempty"`
	PlansAge float64             `json:"plans_age_seconds"`
	// Full: etcd refuses this agent's writes.
	Full      *observed.Condition `json:"full,omitempty"`
	Overrides []Override          `json:"overrides,omitempty"`
	Clusters  []ClusterStatus     `json:"clusters"`
}

// ClusterStatus is one cluster as this agent sees it.
type ClusterStatus struct {
	Name       string               `json:"name"`
	Member     string               `json:"member,omitempty"`
	Leader     string               `json:"leader,omitempty"`
	Epoch      int64                `json:"epoch"`
	LeaderAge  float64              `json:"leader_age_seconds"`
	Confirmed  bool                 `json:"confirmed"`
	Primary    *observed.Primary    `json:"primary,omitempty"`
	ViewAge    float64              `json:"view_age_seconds"`
	Fresh      bool                 `json:"fresh"`
	Paused     bool                 `json:"patroni_paused,omitempty"`
	Standby    bool                 `json:"standby_cluster,omitempty"`
	PostgreSQL LocalStatus          `json:"postgresql"`
	Concerns   []ConcernStatus      `json:"concerns"`
	Routes     []RouteStatus        `json:"routes,omitempty"`
	VIP        *VIPStatus           `json:"vip,omitempty"`
	Why        []observed.Condition `json:"why,omitempty"`
}

// LocalStatus is the last answer of this node's own PostgreSQL.
type LocalStatus struct {
	Reachable  bool   `json:"reachable"`
	InRecovery bool   `json:"in_recovery"`
	Streaming  bool   `json:"streaming,omitempty"`
	System     string `json:"system,omitempty"`
	Timeline   int64  `json:"timeline,omitempty"`
	// By is what another witness says in its own words, when no agent runs.
	By  string  `json:"by,omitempty"`
	Age float64 `json:"age_seconds"`
}

// ConcernStatus is how far the host is with one plan.
type ConcernStatus struct {
	Concern string `json:"concern"`
	// Newest is the newest plan's revision, Plan the one that is worked with.
	Newest int64 `json:"newest"`
	Plan   int64 `json:"plan"`
	// Kept: the plan comes from disk and etcd has not been heard on it yet.
	Kept       bool                 `json:"kept,omitempty"`
	Loaded     string               `json:"loaded,omitempty"`
	Conditions []observed.Condition `json:"conditions,omitempty"`
}

// RouteStatus is what one server of a unit's backend is held at.
type RouteStatus struct {
	Unit    string  `json:"unit"`
	Backend string  `json:"backend"`
	Server  string  `json:"server"`
	Held    string  `json:"held"`
	Start   string  `json:"start"`
	Epoch   int64   `json:"epoch"`
	Age     float64 `json:"age_seconds"`
	Error   string  `json:"error,omitempty"`
	// Lapsed: it is not held any more; HAProxy's checks decide.
	Lapsed bool `json:"lapsed,omitempty"`
}

// Status composes the answer to GET /status.
func (a *Agent) Status() Status {
	now := time.Now()
	st := Status{
		Node: a.o.Node, Version: a.o.Version, Address: a.o.Address(), Endpoints: a.o.Endpoints,
		Uptime: now.Sub(a.started).Seconds(), PlansAge: -1,
	}
	a.store.show(&st)
	st.Overrides, st.Full = a.overrides.list(now), a.fullCondition()
	a.mu.Lock()
	st.Problem = a.lastErr
	a.mu.Unlock()
	select {
	case <-a.admitted:
		st.Speaks = !a.usurped.Load()
		st.Announced = st.Speaks && a.present.Load()
	default:
	}
	if m := a.plans.Load(); m != nil {
		at, _ := m.Fresh()
		st.PlansAge = age(at, now)
	}
	for _, c := range a.all() {
		st.Clusters = append(st.Clusters, c.status(now))
	}
	return st
}

// KeptStatus is what can be said of a state directory without an agent: which plans
// were kept. The error names those that can't be read.
func KeptStatus(stateDir string) (Status, error) {
	st := Status{PlansAge: -1}
	all, err := keeper{stateDir}.all()
	newGuard(stateDir, keptStore(all), zap.NewNop()).show(&st)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := ClusterStatus{Name: name, LeaderAge: -1, ViewAge: -1, PostgreSQL: LocalStatus{Age: -1}}
		for _, concern := range slices.SortedFunc(maps.Keys(all[name]), byOrder) {
			k := all[name][concern]
			c.Member = k.Plan.Cluster.Member
			c.Concerns = append(c.Concerns, ConcernStatus{Concern: concern, Plan: k.Revision, Newest: k.Revision, Kept: true})
		}
		st.Clusters = append(st.Clusters, c)
	}
	return st, err
}

func age(at, now time.Time) float64 {
	if at.IsZero() {
		return -1
	}
	return now.Sub(at).Seconds()
}

func (c *cluster) status(now time.Time) ClusterStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.lookLocked()
	v, local := s.view, c.proofs.Local
	out := ClusterStatus{
		Name: c.name, Member: c.info.Member, Leader: v.Leader.Member, Epoch: int64(v.Leader.Epoch),
		LeaderAge: age(v.Leader.Since, now), Confirmed: v.Confirmed(), Primary: v.Primary,
		ViewAge: age(v.FreshAt, now), Fresh: fresh(v, now), Paused: v.Paused, Standby: v.StandbyCluster,
		PostgreSQL: LocalStatus{
			Reachable: local.Reachable, InRecovery: local.InRecovery, Streaming: local.Streaming, System: local.System,
			Timeline: local.Timeline, Age: age(local.At, now),
		},
	}
	for _, name := range slices.SortedFunc(maps.Keys(c.concerns), byOrder) {
		con := c.concerns[name]
		out.Concerns = append(out.Concerns, ConcernStatus{
			Concern: name, Newest: con.newest, Plan: con.rev, Kept: con.kept,
			Loaded: con.report.Loaded, Conditions: con.report.Conditions,
		})
	}
	out.Routes = c.routeStatusLocked(now)
	out.VIP = c.vip.statusLocked(s, now)
	if cut := c.vip.cutOffLocked(s, now); cut != nil {
		out.Why = append(out.Why, *cut)
	}
	if c.freeze != nil {
		out.Why = append(out.Why, c.freeze.note(c.name, c.a.o.Node))
	}
	for _, name := range slices.SortedFunc(maps.Keys(c.concerns), byOrder) {
		if f := c.concerns[name].freeze; f != nil {
			out.Why = append(out.Why, f.note(c.name, c.a.o.Node))
		}
	}
	if c.why != nil {
		out.Why = append(out.Why, *c.why)
	}
	if _, why := plan.ResolveTargets(nil, v, now); len(why) > 0 {
		out.Why = append(out.Why, why...)
	}
	if own, ok := c.info.Own(); ok {
		out.Why = append(out.Why, leaderConditions(s, own, now)...)
	}
	return out
}

func (c *cluster) routeStatusLocked(now time.Time) []RouteStatus {
	var out []RouteStatus
	for _, unit := range slices.Sorted(maps.Keys(c.asserted)) {
		as := c.asserted[unit]
		for _, backend := range as.last.Backends() {
			servers := as.last[backend]
			for _, server := range slices.Sorted(maps.Keys(servers)) {
				r := RouteStatus{
					Unit: unit, Backend: backend, Server: server, Epoch: int64(as.epoch), Age: age(as.at, now),
					Held: servers[server].Held.String(), Start: servers[server].Start.String(), Lapsed: as.targets == nil,
				}
				if as.err != nil {
					r.Error = as.err.Error()
				}
				out = append(out, r)
			}
		}
	}
	return out
}
