package plan

import (
	"maps"
	"sort"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// RouteRole is which members a backend serves.
type RouteRole string

// The roles a route can have.
const (
	// RoutePrimary serves the confirmed primary and nobody else: a read-write route.
	RoutePrimary RouteRole = "primary"
	// RouteReplica serves every member but the leader.
	RouteReplica RouteRole = "replica"
	// RouteAny serves whoever HAProxy's checks find well.
	RouteAny RouteRole = "any"
)

// FallbackSuffix makes, of a service's name, that of the backend which takes its connections when
// no member of its role can.
const FallbackSuffix = "_fallback"

// Route says what a HAProxy backend is for and which servers it has.
type Route struct {
	Role RouteRole `json:"role"`
	// Pooled: the servers are the members' poolers, and one that is known to be down
	// takes no clients.
	Pooled  bool          `json:"pooled,omitempty"`
	Servers []RouteServer `json:"servers"`
}

// RouteServer is one server line; Name is the member's name.
type RouteServer struct {
	Name      string `json:"name"`
	Address   string `json:"address"`
	Port      int    `json:"port"`
	CheckPort int    `json:"check_port"`
	Weight    int    `json:"weight"`
}

// Target is what one server of a backend is held at.
type Target struct {
	// Held is what the agent asserts over the runtime socket now: Down is a lease
	// that it re-issues, Up is asserted once, Leave is HAProxy's checks' business.
	// Insist is an Up that it re-issues: a failing check does not end it. Vouch is one
	// that a check ends by an answer that says no, and not by getting none.
	Held Verdict
	// Start is the state the server begins with when HAProxy starts or reloads,
	// before any check has run. Leave keeps what the running worker has.
	Start Verdict
	// Stay: it is Held down for new clients only. Those that are there stay.
	Stay bool
}

// behind is the target of a pooler of which its agent says this.
func (t Target) behind(pooler string) Target {
	switch {
	case pooler == observed.PoolerDown:
		return Target{Held: Down, Start: Down}
	case pooler == observed.PoolerAlone && t.Held != Down:
		return Target{Held: Down, Start: Down, Stay: true}
	}
	return t
}

// Verdict is one of Leave, Up, Down, Insist and Vouch.
type Verdict uint8

// The verdicts.
const (
	Leave Verdict = iota
	Up
	Down
	Insist
	Vouch
)

// String names the verdict.
func (v Verdict) String() string { return [...]string{"leave", "up", "down", "insist", "vouch"}[v] }

// HoldsUp reports whether the agent keeps a server up with it.
func (v Verdict) HoldsUp() bool { return v == Up || v == Insist || v == Vouch }

// Targets maps backend and server names to targets.
type Targets map[string]map[string]Target

// Same reports whether two sets of targets say the same. That a server is vouched for
// or not is no difference: it is up either way.
func (t Targets) Same(o Targets) bool {
	plain := func(v Target) Target {
		if v.Held == Vouch {
			v.Held = Up
		}
		return v
	}
	return maps.EqualFunc(t, o, func(a, b map[string]Target) bool {
		return maps.EqualFunc(a, b, func(x, y Target) bool { return plain(x) == plain(y) })
	})
}

// FreshFor is how old the agent's view of etcd may be while it still overrules
// HAProxy's checks (ROLES section 3). Older: checks alone decide.
const FreshFor = 3 * time.Second

// UnconfirmedFor is how long a leader may be named without being confirmed before
// the old primary's server goes down without waiting, and before another agent
// may confirm in its place. The old node was back as a replica 1.9 s after the
// leader key changed (measured), so 1 s keeps clear of it.
const UnconfirmedFor = time.Second

// ResolveTargets says what each server of each route is held at. It is composed
// twice, into HAProxy's state file and over its socket, from this one answer.
func ResolveTargets(routes map[string]Route, v View, now time.Time) (Targets, []observed.Condition) {
	verdict, why := primaryVerdict(v, now)
	out := make(Targets, len(routes))
	for backend, r := range routes {
		servers := make(map[string]Target, len(r.Servers))
		for _, s := range r.Servers {
			servers[s.Name] = target(r.Role, s.Name, verdict, v, now)
			if r.Pooled {
				servers[s.Name] = servers[s.Name].behind(v.pooler(s.Name, now))
			}
		}
		out[backend] = servers
	}
	return out, why
}

func target(role RouteRole, server string, primary func(string) Target, v View, now time.Time) Target {
	switch role {
	case RoutePrimary:
		return v.insisted(server, primary(server), now)
	case RouteReplica:
		if v.fresh(now) && v.Leader.Member == server {
			return Target{Held: Down, Start: Down}
		}
		if m, ok := v.Members[server]; v.Known && (!ok || !m.Running()) {
			return Target{Held: Leave, Start: Down}
		}
		return Target{Held: Leave, Start: Up}
	default:
		return Target{Held: Leave, Start: Up}
	}
}

// primaryVerdict decides read-write routes. The order of the cases is the
// protocol of ROLES sections 2 and 3.
func primaryVerdict(v View, now time.Time) (func(server string) Target, []observed.Condition) {
	all := func(t Target) func(string) Target { return func(string) Target { return t } }
	only := func(member string, t Target) func(string) Target {
		return func(server string) Target {
			if server == member {
				return t
			}
			return Target{Held: Down, Start: Down}
		}
	}
	cond := func(r observed.Reason, msg string) []observed.Condition {
		return []observed.Condition{{Type: observed.HasPrimary, Status: observed.False, Reason: r, Message: msg}}
	}
	switch {
	case !v.fresh(now):
		// The agent can't know. It says nothing; a start begins with everything
		// down and the checks bring up whoever is primary.
		return all(Target{Held: Leave, Start: Down}), cond(observed.StaleView,
			"the view of etcd is older than "+FreshFor.String()+"; HAProxy's checks decide")
	case v.StandbyCluster:
		return all(Target{Held: Down, Start: Down}), cond(observed.StandbyCluster,
			"this is a standby cluster; read-write services are down")
	case v.Confirmed():
		return only(v.Primary.Member, Target{Held: Up, Start: Up}), nil
	case v.Leader.Member == "":
		// The leader key is gone. Whoever was confirmed may be kept for as long as
		// the checks agree; nobody is acquired.
		return only(v.kept(), Target{Held: Leave, Start: Leave}), cond(observed.NoLeader,
			"Patroni's leader key is absent")
	case v.withdrawn():
		return all(Target{Held: Down, Start: Down}), cond(observed.NotConfirmed,
			v.Leader.Member+" leads but its PostgreSQL does not take writes")
	case now.Sub(v.Leader.Since) < UnconfirmedFor:
		// The move may take its normal course: the old server refuses connections
		// already, and HAProxy holds new ones meanwhile.
		return only(v.kept(), Target{Held: Leave, Start: Leave}), cond(observed.NotConfirmed,
			v.Leader.Member+" leads and is not confirmed yet")
	default:
		return all(Target{Held: Down, Start: Down}), cond(observed.NotConfirmed,
			v.Leader.Member+" leads and has not been confirmed for more than "+UnconfirmedFor.String())
	}
}

// Backends returns the backend names in order.
func (t Targets) Backends() []string {
	out := make([]string, 0, len(t))
	for b := range t {
		out = append(out, b)
	}
	sort.Strings(out)
	return out
}
