package status

import (
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// addressConcern is the concern whose reports say who has the virtual address.
const addressConcern = "vip"

// vip says who has the virtual address, as the agents see it on their hosts.
func (c *computer) vip() {
	if !c.out.Exists || !c.docs.VIP.On() {
		return
	}
	c.out.VIP = &VIP{Address: c.docs.VIP.Host()}
	planned, said := false, false
	for i := range c.out.Members {
		m := &c.out.Members[i]
		if _, ok := c.plans[m.Node][addressConcern]; ok {
			planned = true
		}
		r := c.reports[m.Node][addressConcern]
		if !c.alive(m.Node) {
			continue // what it said last is of an unknown age
		}
		if r.Facts[observed.FactVIP] == observed.VIPHeld {
			c.out.VIP.Member, c.out.VIP.Node = m.Name, m.Node
			m.VIP = c.out.VIP.Address
		}
		for _, cond := range r.Conditions {
			says := cond.Bad() && worthSaying(cond) || cond.Reason == observed.Overridden // dropped by hand
			said = said || m.Name == c.out.Primary && cond.Type == observed.Healthy && says
		}
	}
	if c.out.Primary == "" || !planned || said || c.out.VIP.Member == c.out.Primary {
		return // nobody should have it, or why is said already
	}
	node := c.nodeOf(c.out.Primary)
	msg := fmt.Sprintf("%s is on no node; %s is the primary, on node %s", c.out.VIP.Address, c.out.Primary, node)
	if c.out.VIP.Node != "" {
		msg = fmt.Sprintf("%s is on node %s; %s is the primary, on node %s", c.out.VIP.Address, c.out.VIP.Node, c.out.Primary, node)
	}
	c.add(addressConcern, node, observed.Condition{
		Type: observed.Healthy, Status: observed.False, Reason: observed.AddressNotHeld, Key: c.Layout.VIPKey(c.Cluster),
		Message: msg, Next: fmt.Sprintf("pgagent status (on %s)", node),
	})
}
