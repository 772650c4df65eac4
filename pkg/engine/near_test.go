package engine

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

var fleetMembers = []controllers.Access{{Family: keys.Desired, Part: "members", Fleet: true}, {Family: keys.Nodes}}

// TestAChangeWakesThoseItConcerns: of a fleet, the clusters on the node that a member
// is on, and on the one it was on before.
func TestAChangeWakesThoseItConcerns(t *testing.T) {
	bubble(t, func(f farm) {
		for i, node := range []string{"n1", "n1", "n2", "n2", "n3"} {
			f.member(fmt.Sprintf("pg-%d", i), "node: "+node)
		}
		c := &fake{name: "haproxy", inputs: fleetMembers}
		f.engine("leader", Options{Concerned: topology.Concerned}, c)
		time.Sleep(time.Second)
		for _, step := range []struct{ node, woken string }{
			{"n1", "1 1 0 0 0"}, // written again: the generation is another
			{"n2", "1 1 1 1 0"},
			{"n3", "1 0 1 1 1"},
		} {
			before := map[int]int{}
			for i := range 5 {
				before[i] = c.called(fmt.Sprintf("pg-%d", i))
			}
			f.member("pg-0", "node: "+step.node)
			time.Sleep(time.Second)
			got := ""
			for i := range 5 {
				woken := min(1, c.called(fmt.Sprintf("pg-%d", i))-before[i])
				got += fmt.Sprintf(" %d", woken)
			}
			if got[1:] != step.woken {
				t.Errorf("to %s: woke %s, want %s", step.node, got[1:], step.woken)
			}
		}
	})
}

// TestMentioning: documents are found by the words in them as they are now, however
// they are spelt, and only those that were declared.
func TestMentioning(t *testing.T) {
	bubble(t, func(f farm) {
		f.member("pg-a", "node: n1\ntags: {site: n-1.b}")
		f.member("pg-b", `{"node": "n1"}`)
		f.member("pg-c", `{"node": "n\u0031"}`)
		f.member("pg-d", "node: n1")
		f.member("pg-d", "node: n11")
		f.etcd.Put(layout.Node("n1"), "address: 10.0.0.1")
		f.etcd.Put(layout.ClusterDoc("pg-e", "services/n1"), "n1")
		var mu sync.Mutex // clusters are worked on side by side
		got := map[string]string{}
		c := &fake{name: "haproxy", inputs: fleetMembers, plan: func(in controllers.Input) (controllers.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, word := range []string{"n1", "n11", "n-1.b", "node", "10.0.0.1"} {
				found := ""
				for _, e := range kv.Mentioning(in.Snapshot, layout.Prefix(keys.Desired), word) {
					ref, _ := layout.Parse(e.Key)
					found += ref.Cluster[3:]
				}
				got[word] = found
			}
			return controllers.Result{}, nil
		}}
		f.leader(c)
		f.settle()
		for word, want := range map[string]string{"n1": "abc", "n11": "cd", "n-1.b": "ac", "node": "abcd", "10.0.0.1": "c"} {
			if got[word] != want {
				t.Errorf("%q is found in %q, want %q", word, got[word], want)
			}
		}
	})
}
