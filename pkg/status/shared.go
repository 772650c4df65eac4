package status

import (
	"cmp"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
)

// Program is what one node runs for all of its clusters.
type Program struct {
	Node    string `json:"node"`
	Program string `json:"program"`
	// Ready: it runs as planned.
	Ready bool `json:"ready"`
	// Conditions are why not, and notes.
	Conditions []Condition `json:"conditions,omitempty"`
}

// Shared are the programs that clusters on a node share, by node, and what stands in the
// way of those that are planned nowhere yet. What is wrong with documents is not among
// it: FleetConditions says that anyway.
func Shared(in Input) (programs []Program, other []Condition) {
	in.Cluster, in.Concerns = keys.NodeCluster, in.Shared
	c := &computer{
		Input: in, docs: &desired.Cluster{}, plans: map[string]map[string]stored{},
		reports: map[string]map[string]observed.Report{}, live: map[string]patroni.Member{},
	}
	c.read()
	c.planned()
	for node, list := range c.plans {
		for program := range list {
			programs = append(programs, Program{Node: node, Program: program, Ready: c.alive(node)})
		}
	}
	slices.SortFunc(programs, func(a, b Program) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Program, b.Program))
	})
	for _, cond := range worstFirst(c.out.Conditions) {
		if cond.Type == observed.Valid || cond.Reason == observed.NodeAbsent {
			continue
		}
		i := slices.IndexFunc(programs, func(p Program) bool { return p.Node == cond.Node && p.Program == cond.Concern })
		if i < 0 {
			other = append(other, cond)
			continue
		}
		programs[i].Conditions = append(programs[i].Conditions, cond)
		programs[i].Ready = programs[i].Ready && !cond.Blocking()
	}
	return programs, other
}
