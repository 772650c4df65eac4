package plan

// SchemaFor is the schema in which a server whose newest is newest writes plans:
// the newest that every agent has announced, so that an upgrade of servers and agents
// may go in any order. An agent that announces none (0) is from before it was
// announced, and understands 1. With no agent there is nobody to ask.
func SchemaFor(newest int, announced []int) int {
	for _, a := range announced {
		newest = min(newest, max(a, 1))
	}
	return newest
}
