package status

// hooks says what is wrong with the documents of hooks. No controller reads them, so nobody
// else does, and no plan waits for them.
func (c *computer) hooks() {
	for _, p := range c.docs.Problems {
		if p.Kind == "hooks" {
			c.add(Hooks, "", p.Condition())
		}
	}
}
