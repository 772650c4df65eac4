package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// kills is how many programs R13's test kills; about 75 s of them.
const kills = 50

// TestR13KilledAtAnyInstant: agents and the server are killed again and again, while
// documents change and clients write. No client sees another holder, target or role;
// the confirmation neither moves nor is withdrawn; and what the last document says is
// in force at the end.
func TestR13KilledAtAnyInstant(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	leader := must[string](t)(hosts.Leader(ctx, cluster))
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	moved := make(chan string, 100)
	go watchRoles(watching, leader, moved)
	samplers := sampleAll(ctx, t, 20*time.Millisecond)

	victims := []struct {
		host *lab.Host
		unit string
	}{{hosts.Infra, "pgctrl-server"}}
	for _, h := range hosts.Nodes {
		victims = append(victims, struct {
			host *lab.Host
			unit string
		}{h, "pgagent"})
	}
	last := ""
	for i := range kills {
		if i%4 == 0 { // something to be in the middle of
			last = fmt.Sprintf("maxconn: %d\n", 5000+i)
			ok(t, hosts.Put(ctx, hosts.Layout.ClusterDoc(cluster, "services/default"), last))
		}
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond)
		v := victims[rand.IntN(len(victims))]
		// A unit that is just being started has nothing to kill.
		_, _ = v.host.Exec(ctx, "systemctl", "kill", "--signal=KILL", v.unit)
	}
	ok(t, fleet.Until(ctx, time.Minute, "the last document to be in force", func(ctx context.Context) error {
		want := strings.ReplaceAll(strings.TrimSpace(last), ":", "")
		for _, h := range hosts.Nodes {
			if _, err := h.Exec(ctx, "grep", "-q", want, "/etc/haproxy/"+cluster+".cfg"); err != nil {
				return fmt.Errorf("%s has no %q", h.Name, want)
			}
		}
		return nil
	}))
	statusReady(ctx, t)
	for i, samples := range stopAll(samplers) {
		seen := map[string]int{}
		for _, s := range samples {
			seen[fmt.Sprintf("%s %s", s.Outcome, s.Server)]++
		}
		t.Logf("through %s: %v", hosts.Nodes[i].Name, seen)
		if want := string(probe.Written) + " " + hosts.Node(leader).IP; seen[want] != len(samples) || len(samples) < 1000 {
			t.Errorf("through %s: %d of %d attempts were %s", hosts.Nodes[i].Name, seen[want], len(samples), want)
		}
	}
	stopWatching()
	for len(moved) > 0 {
		t.Error(<-moved)
	}
	restore(ctx, t, hosts.Layout.ClusterDoc(cluster, "services/default"), "")
	statusReady(ctx, t)
}

// watchRoles reports every change of who leads or is confirmed.
func watchRoles(ctx context.Context, leader string, moved chan<- string) {
	for r := range hosts.Etcd.Watch(ctx, hosts.Layout.PrimaryKey(cluster)) {
		for _, ev := range r.Events {
			var p observed.Primary
			if ev.Kv != nil {
				p, _ = observed.Decode[observed.Primary](kvOf(string(ev.Kv.Key), ev.Kv.Value))
			}
			if p.Member != leader || !p.Writable {
				moved <- fmt.Sprintf("the confirmed primary became %q, writable %v, by %s", p.Member, p.Writable, p.By)
			}
		}
	}
}

func kvOf(key string, value []byte) kv.KV { return kv.KV{Key: key, Value: value} }
