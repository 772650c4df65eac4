package haproxy

import (
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestTwoUnitsCannotBeToldOnePortIsFree: both are validated before either listens.
func TestTwoUnitsCannotBeToldOnePortIsFree(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	first, second := l.staged(l.config()), l.staged(l.config())
	second.Unit.Unit = "haproxy@other.service"
	must(t, l.program.Validate(t.Context(), first))
	must(t, l.program.Validate(t.Context(), first)) // its own claim
	refusal(t, l.program.Validate(t.Context(), second), observed.PortInUse, first.Unit.Unit)
	second = l.staged(strings.Replace(l.config(), portOf(l), itoa(freeport.Take(t)), 1))
	second.Unit.Unit = "haproxy@other.service"
	must(t, l.program.Validate(t.Context(), second))
}

func TestClaimsEnd(t *testing.T) {
	var c claims
	now := time.Now()
	b := []Bind{{Port: 5436}}
	must(t, c.take("a", "/a", b, now))
	if c.take("b", "/b", b, now.Add(claimFor)) == nil {
		t.Error("a port that is claimed was claimed again")
	}
	must(t, c.take("b", "/b", b, now.Add(claimFor+1)))
	must(t, c.take("b", "/b", []Bind{{Port: 5437}}, now.Add(claimFor+2)))
	must(t, c.take("a", "/a", b, now.Add(claimFor+3)))
}
