package agenttest

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

func TestInPlaceConforms(t *testing.T) {
	p := New("m").InPlace()
	r := plan.Restore{Operation: "restore-1", First: "m1", Data: "/data/c"}
	p.Put(r.Data, "former")
	InPlaceConformance(t, InPlaceHost{InPlace: p, Restore: r, Put: p.Put, Data: p.Data, Up: p.Up})
}
