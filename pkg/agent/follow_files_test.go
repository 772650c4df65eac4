package agent_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const hosts = "/etc/pgctrl/hosts.d/c"

// dnsPlan is the file of hosts on a node; one without a member is i = 9.
func dnsPlan(i int) plan.Plan {
	p := haproxyPlan(i)
	if i == 9 {
		p.Cluster.Member = ""
	}
	p.Resources = plan.Resources{plan.Watched{
		File: hosts, Mode: "0644", Content: "{{primary.address}} c\n", Replicas: []string{"c-replica"}, From: []string{"m1", "m2", "m3"},
	}}
	return p
}

const (
	hostsOfM1 = "10.0.0.1 c\n10.0.0.2 c-replica\n10.0.0.3 c-replica\n"
	hostsOfM2 = "10.0.0.2 c\n10.0.0.1 c-replica\n10.0.0.3 c-replica\n"
)

// named brings up the agents with names on a node of no member and on one with.
func named(t *testing.T, w *world) (a2, infra *running) {
	t.Helper()
	_, a2, _ = settle(t, w)
	w.etcd.Put(layout.PlanKey(node(9), "c", "dns"), string(plan.Encode(dnsPlan(9))))
	w.etcd.Put(layout.PlanKey(node(2), "c", "dns"), string(plan.Encode(dnsPlan(2))))
	infra = w.start(9, "")
	after(2 * agent.SettleAfterMove)
	for _, a := range []*running{a2, infra} {
		expect(t, "names", a.host.File(hosts), hostsOfM1)
	}
	return a2, infra
}

// TestR1NamesFollowTheLeader: nobody but agents runs here. A node that routes waits
// with everything else for the move to be over, and its names do not.
func TestR1NamesFollowTheLeader(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a2, infra := named(t, w)
		w.leader(2)
		after(300 * time.Millisecond)
		for _, a := range []*running{a2, infra} {
			expect(t, "the old primary's name stays until the next is confirmed", a.host.File(hosts), "10.0.0.1 c\n10.0.0.3 c-replica\n")
		}
		a2.host.SetPostgres(writable(2))
		after(20 * time.Millisecond)
		p, _ := w.primary()
		expect(t, "confirmed", p.Member, "m2")
		for _, a := range []*running{a2, infra} {
			expect(t, "names", a.host.File(hosts), hostsOfM2)
		}
		w.etcd.Delete(layout.Leader("c"))
		after(time.Second)
		expect(t, "nobody leads", infra.host.File(hosts), hostsOfM2)
		infra.host.SetFile(hosts, "by hand\n")
		after(agent.DriftEvery + time.Second)
		expect(t, "repaired", infra.host.File(hosts), hostsOfM2)
		expect(t, "a move is no drift", w.report(9, "dns").Facts["repaired"], "1 times; last file "+hosts+": content differs")
	})
}

// TestFrozenNamesFollowTheLeader: what people set stays until the leader changes.
func TestFrozenNamesFollowTheLeader(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a2, infra := named(t, w)
		infra.freeze(t, "freeze", "work on it")
		after(agent.DriftEvery)
		newer := dnsPlan(9)
		infra.host.SetFile(hosts, "by hand\n")
		after(agent.DriftEvery + time.Second)
		expect(t, "what people set", infra.host.File(hosts), "by hand\n")
		w.leader(2)
		a2.host.SetPostgres(writable(2))
		after(time.Second)
		expect(t, "names", infra.host.File(hosts), hostsOfM2)
		file := newer.Resources[0].(plan.Watched)
		file.Content = "{{primary.address}} c2\n"
		newer.Resources = plan.Resources{file}
		w.etcd.Put(layout.PlanKey(node(9), "c", "dns"), string(plan.Encode(newer)))
		after(agent.DriftEvery)
		expect(t, "a newer plan waits", infra.host.File(hosts), hostsOfM2)
	})
}

// TestFrozenNamesFollowTheLeaderAfterAStart: an agent that is started anew in a freeze, as by an
// upgrade or a boot, follows the leader as the one before did.
func TestFrozenNamesFollowTheLeaderAfterAStart(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a2, infra := named(t, w)
		infra.freeze(t, "freeze", "work on it")
		after(agent.DriftEvery)
		infra.stop()
		w.leader(2)
		a2.host.SetPostgres(writable(2))
		after(5 * time.Second)
		infra = w.startOn(9, infra.dir, infra.host)
		after(5 * time.Second)
		expect(t, "names", infra.host.File(hosts), hostsOfM2)
	})
}

func TestNamesAreRemoved(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, infra := named(t, w)
		w.etcd.Delete(layout.PlanKey(node(9), "c", "dns"))
		after(agent.DriftEvery + time.Second)
		expect(t, "R6: a vanished plan means keep", infra.host.File(hosts), hostsOfM1)
		w.etcd.Put(layout.PlanKey(node(9), "c", "dns"), string(plan.Encode(plan.Removes(dnsPlan(9), plan.Removal{}))))
		after(5 * time.Second)
		expect(t, "removed", infra.host.File(hosts), "")
		expect(t, "reported", applied(t, w.report(9, "dns")).Reason, observed.Removed)
	})
}

// TestAbsentWhileTheRestIsApplied: a plan takes one resource away and keeps the others; a
// freeze keeps what people may have set.
func TestAbsentWhileTheRestIsApplied(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		const other = "/etc/pgctrl/hosts.d/other"
		_, infra := named(t, w)
		both := dnsPlan(9)
		both.Resources = append(both.Resources, plan.Watched{File: other, Mode: "0644", Content: "x\n"})
		w.etcd.Put(layout.PlanKey(node(9), "c", "dns"), string(plan.Encode(both)))
		after(time.Second)
		expect(t, "the other file", infra.host.File(other), "x\n")
		both.Resources[1] = plan.Watched{File: other, Absent: true}
		frozen := infra.freeze(t, "freeze", "work on it")
		after(agent.DriftEvery)
		w.etcd.Put(layout.PlanKey(node(9), "c", "dns"), string(plan.Encode(both)))
		after(agent.DriftEvery)
		expect(t, "frozen", infra.host.File(other), "x\n")
		thaw(t, frozen)
		after(2 * agent.DriftEvery)
		expect(t, "absent", infra.host.File(other), "")
		expect(t, "the rest", infra.host.File(hosts), hostsOfM1)
		expect(t, "reported", applied(t, w.report(9, "dns")).Status, observed.True)
		both.Resources[1] = plan.Watched{File: other, Mode: "0644", Content: "x\n"}
		w.etcd.Put(layout.PlanKey(node(9), "c", "dns"), string(plan.Encode(both)))
		after(2 * agent.DriftEvery)
		expect(t, "wanted again", infra.host.File(other), "x\n")
		infra.shows(t, "pgagent_repairs_total", "cluster=c concern=dns", 0) // that it was away was no drift
	})
}
