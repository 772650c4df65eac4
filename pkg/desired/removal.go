package desired

// absent is the state of what is to be removed. Removal is always said: a document
// that is not there means the default again, or "no longer managed".
const absent = "absent"

// Removing reports whether the cluster as a whole is to be removed: its postgres
// document says so and has the cluster's name typed into confirm. A document that
// can't be used removes nothing.
func (c *Cluster) Removing() bool {
	return c.Postgres.State == absent && c.Postgres.Confirm == c.Name && !c.Invalid("postgres")
}

// Stays returns the members that are not to be removed, sorted by name.
func (c *Cluster) Stays() []*Member {
	var out []*Member
	for _, m := range c.MemberList() {
		if !m.Absent() && !c.Removing() {
			out = append(out, m)
		}
	}
	return out
}

// checkRemoval wants a cluster's name typed before all of it goes (R14): one word
// in one document is too easily meant for another cluster, or copied with it.
func checkRemoval(c *Cluster) []Problem {
	if !c.Loaded("postgres") || c.Postgres.State != absent || c.Postgres.Confirm == c.Name || c.Invalid("postgres") {
		return nil
	}
	p := c.resolved["postgres"].problem("confirm", "expected the cluster's name %s, because state: absent removes all of it, found %s", c.Name, quote(c.Postgres.Confirm))
	p.Suggestion = "pgctrl remove asks for it"
	return []Problem{p}
}

// lastMember refuses to remove the last member: nobody would be left to serve, and
// removing the cluster is said by its own document.
func (c *Cluster) lastMember() Problem {
	p := c.resolved["members/"+c.MemberList()[0].Name].problem("state", "expected a member that stays, found all %d absent", len(c.Members))
	p.Suggestion = "pgctrl remove removes the whole cluster"
	return p
}
