package status

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// proxy is the concern whose reports say where services lead, and routeFact the
// prefix of the facts that do, followed by the backend's name.
const (
	proxy     = "haproxy"
	routeFact = "route."
)

// services says where each service leads on each node that has a plan for it.
func (c *computer) services() {
	if !c.out.Exists {
		return
	}
	for _, s := range c.docs.ServiceList() {
		row := Service{Name: s.Name, Port: s.Port, Role: s.Role, Via: c.via(s), Targets: []string{}, Nodes: map[string][]string{}}
		first, agree := []string(nil), true
		for _, node := range c.docs.ProxyNodes() {
			if !c.alive(node) {
				continue // what it said last is of an unknown age
			}
			row.Total++
			targets, known := c.targets(s, node)
			if !known {
				agree = false
				continue
			}
			row.Nodes[node] = targets
			if first == nil {
				first = targets
			}
			agree = agree && slices.Equal(first, targets)
			if c.right(s, targets) {
				row.Right++
			}
		}
		if row.Agree = agree && row.Total > 0; row.Agree && first != nil {
			row.Targets = first
		}
		c.out.Services = append(c.out.Services, row)
		c.routeCondition(row)
	}
}

// via is what connections go to on the member: as the plans have it, else as the
// document says.
func (c *computer) via(s *desired.Service) string {
	for _, node := range slices.Sorted(maps.Keys(c.plans)) { // while it goes from node to node they differ
		p, planned := c.plans[node][proxy]
		if !planned {
			continue
		}
		if slices.Contains(p.Pooled, s.Name) || slices.Contains(p.Pooled, s.Name+plan.FallbackSuffix) {
			return desired.Pooled
		}
		return desired.Direct
	}
	return s.Backend
}

// targets are the members a node's HAProxy sends the service's clients to: the
// service's own servers, else those it falls back to.
func (c *computer) targets(s *desired.Service, node string) ([]string, bool) {
	p, planned := c.plans[node][proxy]
	r, reported := c.reports[node][proxy]
	if !planned || !reported {
		return nil, false
	}
	known := false
	for _, backend := range []string{s.Name, s.Name + plan.FallbackSuffix} {
		if !slices.Contains(p.Backends, backend) {
			continue
		}
		fact, ok := r.Facts[routeFact+backend]
		known = known || ok
		if fact != "" {
			return strings.Split(fact, ","), true
		}
	}
	return []string{}, known
}

// right: a read-write service leads to the confirmed primary and nowhere else,
// any other to somebody.
func (c *computer) right(s *desired.Service, targets []string) bool {
	if s.Role == "primary" {
		return c.out.Primary != "" && slices.Equal(targets, []string{c.out.Primary})
	}
	return len(targets) > 0
}

// routeCondition says which nodes lead a read-write service elsewhere. While nobody
// is confirmed there is nowhere to lead to; that has its own condition.
func (c *computer) routeCondition(s Service) {
	if s.Role != "primary" || c.out.Primary == "" {
		return
	}
	for _, node := range c.docs.ProxyNodes() {
		targets, known := s.Nodes[node]
		if !c.alive(node) || len(c.plans[node]) == 0 || known && slices.Equal(targets, []string{c.out.Primary}) {
			continue
		}
		cond := observed.Condition{
			Type: observed.Healthy, Status: observed.False, Reason: observed.RouteDiffers,
			Key:     c.Layout.ObservedKey(node, c.Cluster, proxy),
			Message: fmt.Sprintf("service %s on node %s leads to %s, not to %s", s.Name, node, orNobody(targets), c.out.Primary),
			Next:    fmt.Sprintf("pgagent status (on %s)", node),
		}
		if !known {
			cond.Status, cond.Message = observed.Unknown, fmt.Sprintf("node %s has not said yet where service %s leads", node, s.Name)
		}
		c.add(proxy, node, cond)
	}
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
