package desired

import (
	"strings"
	"time"
)

// What the cluster's own name leads to.
const (
	DNSTargetAuto    = "auto"
	DNSTargetVIP     = "vip"
	DNSTargetPrimary = "primary"
)

// DefaultTTL is how long clients may remember a name of a fleet that says nothing of it: a
// second, because a failover is over in one (R1), and a busy client asks once a second.
const DefaultTTL = Duration(time.Second)

// DNS is the names under which clients find the cluster: dns.
type DNS struct {
	Meta    `yaml:"-"`
	Enabled bool     `yaml:"enabled" default:"true" effect:"move" example:"false" says:"false takes the cluster's names away from every node with role infra."`
	Suffix  string   `yaml:"suffix" format:"domain" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$" effect:"move" note:"none: names have one word" example:"db.example.org" says:"The domain that every name of the cluster is in, without a dot before or after it."`
	TTL     Duration `yaml:"ttl" default:"1s" min:"0s" max:"1h" effect:"reload" unit:"whole seconds" example:"5s" says:"How long clients may remember what a name leads to; after a failover they may go wrong for as long. A node's dnsmasq has one for all clusters, the least of theirs."`
	Forward bool     `yaml:"forward" default:"false" effect:"reload" example:"true" says:"Another server knows names in the suffix too: those that are not pgctrl's are asked of it. Without it they do not exist."`
	Target  string   `yaml:"target" default:"auto" enum:"auto,vip,primary" effect:"move" example:"primary" says:"What the cluster's own name leads to: its virtual address, or the confirmed primary's host; auto: the virtual address if there is one."`
}

// FullName is a name with the cluster's suffix.
func (d *DNS) FullName(name string) string {
	if d.Suffix == "" {
		return name
	}
	return name + "." + d.Suffix
}

// ReplicaName is the name that leads to the members that serve as replicas.
func ReplicaName(cluster string) string { return cluster + "-replica" }

// NamesVIP reports whether the cluster's own name leads to its virtual address.
func (c *Cluster) NamesVIP() bool {
	return c.VIP.On() && c.DNS.Target != DNSTargetPrimary
}

// InfraNodes returns the names of the nodes with role infra, sorted; they are known
// when dns or monitor was loaded. None when the cluster is to be removed.
func (c *Cluster) InfraNodes() []string {
	set := map[string]bool{}
	for _, n := range c.Nodes {
		if n.HasRole(roleInfra) && !c.Removing() {
			set[n.Name] = true
		}
	}
	return sortedKeys(set)
}

// checkNames finds names that would lead to two places, and a target that is not there.
func checkNames(c *Cluster) []Problem {
	if !c.Loaded("dns") || !c.DNS.Enabled || c.Invalid("dns") {
		return nil
	}
	var out []Problem
	if c.Loaded("vip") && c.DNS.Target == DNSTargetVIP && !c.VIP.On() && !c.Invalid("vip") {
		p := c.resolved["dns"].problem("target", "expected a virtual address to lead to, found none")
		p.Suggestion = "give the document vip an address, or set target to auto"
		out = append(out, p)
	}
	if len(c.InfraNodes()) == 0 {
		return out // nobody is told any names
	}
	for _, m := range c.MemberList() {
		// Names know no case, and a name in two lines has two addresses.
		for _, own := range []string{c.Name, ReplicaName(c.Name)} {
			if strings.EqualFold(m.Name, own) {
				p := c.resolved["dns"].problem("enabled", "expected names that are used once, found member %s, and %q leads to another place", m.Name, own)
				p.Suggestion = "set enabled to false, or give the member another name"
				out = append(out, p)
			}
		}
	}
	return out
}

var _ = register(Kind{
	Name:    "dns",
	Meaning: "The names under which clients find the cluster, on nodes with role infra.",
	store:   func(c *Cluster, _ string, doc any) { c.DNS = *doc.(*DNS) },
}, DNS{}, nil)
