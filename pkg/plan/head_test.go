package plan

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHeadIsWhatDecodeReads: whatever the texts in a plan are, its head and the parts
// read by themselves are those of the whole.
func TestHeadIsWhatDecodeReads(t *testing.T) {
	trap := `x,"resources":[{"patroni":"no"}] "primary":{"role":`
	p := Plan{
		Schema: Schema, Writer: trap, Store: "s", UID: "u", Inputs: Inputs{7},
		Cluster: Cluster{Name: "c", Member: trap, Members: []Member{{Name: trap, Node: "n"}}},
		Secrets: map[string]int64{"a": 1},
		Resources: Resources{
			Unit{Unit: "u", Program: "haproxy", Files: []File{{Path: "/f", Content: trap}}, Routes: map[string]Route{"replica": {Role: RouteReplica}}},
			Patroni{Patroni: "c", Config: map[string]any{"ttl": 30.0, "x": trap}},
		},
	}
	value := Encode(p)
	head, err := Head(value)
	want := p
	want.Resources = nil
	if d := cmp.Diff(want, head); err != nil || d != "" {
		t.Errorf("head: %v\n%s", err, d)
	}
	if d := cmp.Diff(p.Resources[1].(Patroni).Config, DynamicConfig(value)); d != "" {
		t.Error("dynamic configuration:", d)
	}
	if !HasBackend(value, "replica") || HasBackend(value, "primary") {
		t.Error("backends are not those of the plan")
	}
	if DynamicConfig(Encode(Plan{Resources: p.Resources[:1]})) != nil {
		t.Error("a plan without dynamic configuration has one")
	}
	newer := p
	newer.Schema = Schema + 1
	if _, err := Head(Encode(newer)); !errors.Is(err, ErrSchema) {
		t.Errorf("a newer schema: %v", err)
	}
	if _, err := Head([]byte("{")); err == nil {
		t.Error("half a plan was read")
	}
}
