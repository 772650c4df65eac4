package haproxy

import (
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// frontend is where clients of one service connect.
type frontend struct {
	Name          string
	Port          int
	MaxConn       int
	ClientTimeout string
	// Uses is the backend to use while it has a server up; Default when it has
	// none. Without a fallback Uses is empty and Default is the service's own.
	Uses, Default string
	// Bind is filled in by render: it differs by node.
	Bind string
}

// backend is one set of servers.
type backend struct {
	Name, Says, Balance, Check string
	Role                       plan.RouteRole
	Pooled                     bool
	Holds                      string
	Servers                    []plan.RouteServer

	Connect, ServerTimeout      string
	Inter, FastInter, DownInter string
	Retries, Rise, Fall         int
}

// The services' roles (desired.Service.Role and Fallback).
const (
	rolePrimary = "primary"
	roleReplica = "replica"
	roleOffline = "offline"
	fallbackNo  = "none"
)

// holder is the server of a read-write backend to which nobody listens: no member can
// have its name.
const holder = "_hold"

// compose turns services into frontends and backends, by name. A service's own
// backend and its fallback are two, so that HAProxy itself falls back at once when
// the first has no server up.
func compose(in controllers.Input, t *topology.Topology, pooled map[string]bool) (bs []backend, fs []frontend, bad []observed.Condition) {
	for _, s := range t.Docs.ServiceList() {
		f := frontend{
			Name: s.Name, Port: s.Port, MaxConn: s.MaxConn,
			ClientTimeout: s.ClientTimeout.String(), Default: s.Name,
		}
		own := backendOf(t, s, s.Name, s.Role, pooled[s.Name])
		own.Says = fmt.Sprintf("%s: %s.", s.Name, own.takers(s, s.Role))
		if s.Fallback == fallbackNo {
			fs, bs = append(fs, f), append(bs, own)
			continue
		}
		name := s.Name + plan.FallbackSuffix
		if _, taken := t.Docs.Services[name]; taken {
			bad = append(bad, observed.Condition{
				Type: observed.Valid, Status: observed.False, Reason: observed.InvalidDocument,
				Key:     in.Layout.ClusterDoc(in.Cluster, "services/"+name),
				Message: fmt.Sprintf("expected another name: %s is what service %s falls back to", name, s.Name),
			})
		}
		fallback := backendOf(t, s, name, s.Fallback, pooled[s.Name])
		fallback.Says = fmt.Sprintf("%s, while it has nobody else: %s.", s.Name, fallback.takers(s, s.Fallback))
		f.Uses, f.Default = s.Name, name
		if len(own.Servers) == 0 {
			f.Uses = "" // no such member at all: always the fallback
		} else {
			bs = append(bs, own)
		}
		fs, bs = append(fs, f), append(bs, fallback)
	}
	return bs, fs, bad
}

// takers says in words whom the backend leads to.
func (b backend) takers(s *desired.Service, role string) string {
	who := map[string]string{rolePrimary: "the primary and nobody else", roleReplica: "replicas", roleOffline: "offline members"}[role]
	if b.Role != plan.RoutePrimary && s.MaxLag > 0 {
		who += fmt.Sprintf(" that are at most %s behind", s.MaxLag)
	}
	if b.Pooled {
		who += ", through their poolers"
	}
	return who
}

func backendOf(t *topology.Topology, s *desired.Service, name, role string, pooled bool) backend {
	b := backend{
		Name: name, Balance: "leastconn", Pooled: pooled, Role: plan.RouteReplica, Check: "/replica",
		Connect: s.ConnectTimeout.String(), ServerTimeout: s.ServerTimeout.String(), Retries: s.Retries,
		Inter: s.Inter.String(), FastInter: s.FastInter.String(), DownInter: s.DownInter.String(),
		Rise: s.Rise, Fall: s.Fall,
	}
	if role == rolePrimary {
		b.Role, b.Check, b.Holds = plan.RoutePrimary, "/primary", holder
	} else if s.MaxLag > 0 {
		b.Check = fmt.Sprintf("/replica?lag=%d", s.MaxLag.Bytes())
	}
	for _, m := range t.Members {
		// Any member may come to lead, whatever its document says of it: the leader
		// key alone knows. So read-write backends have them all.
		// That holds to the end for one that is to go: until it has been stopped, its
		// server is there, held down while it does not lead.
		if role == roleReplica && (m.Offline || delayed(t, m.Name)) || role == roleOffline && !m.Offline || role != rolePrimary && t.Leaving[m.Name] {
			continue
		}
		port := m.Port
		if pooled {
			port = t.Docs.PgBouncer.Port
		}
		b.Servers = append(b.Servers, plan.RouteServer{
			Name: m.Name, Address: m.Address, Port: port, CheckPort: m.RESTPort, Weight: weight(t, m.Name, role),
		})
	}
	return b
}

// delayed members are behind on purpose, so no replica service leads to them; their
// lag says nothing while nobody writes.
func delayed(t *topology.Topology, member string) bool {
	d := t.Docs.Members[member]
	return d != nil && d.Delayed()
}

// weight is the member's share. On a read-write backend it means nothing, and 0
// would keep clients from a primary that happens to be there.
func weight(t *topology.Topology, member, role string) int {
	d := t.Docs.Members[member]
	if d == nil || role == rolePrimary {
		return 100
	}
	return d.Weight
}
