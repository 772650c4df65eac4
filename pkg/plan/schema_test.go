package plan_test

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestNewerSchemaWaitsForEveryAgent: side by side with old agents a newer server
// writes what they understand.
func TestNewerSchemaWaitsForEveryAgent(t *testing.T) {
	for _, c := range []struct {
		newest    int
		announced []int
		want      int
	}{
		{1, nil, 1}, {1, []int{1, 0}, 1}, {1, []int{2, 2}, 1},
		{2, []int{2, 2, 2}, 2}, {2, []int{2, 1, 2}, 1}, {2, []int{2, 0}, 1}, {3, []int{2, 3}, 2}, {2, []int{5}, 2},
	} {
		if got := plan.SchemaFor(c.newest, c.announced); got != c.want {
			t.Errorf("newest %d, agents %v: schema %d, want %d", c.newest, c.announced, got, c.want)
		}
	}
}
