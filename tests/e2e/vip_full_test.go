package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// TestRestartsWhileEtcdIsFull: every agent is killed and the server restarted while
// etcd refuses every write. They can't get a lease, so nobody is present and nobody
// is elected; what is on the hosts goes on all the same, the address with it, past
// the end of every lease. With room made everything is as it was written, the
// document too that came in just before.
func TestRestartsWhileEtcdIsFull(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	leader, _ := leaderAndNext(ctx, t)
	vipOn(ctx, t, leader, 20*time.Second)
	before, documents := fingerprint(ctx, t), desiredKeys(ctx, t)
	doc := hosts.Layout.ClusterDoc(cluster, "services/primary")
	t.Cleanup(func() {
		ctx := context.Background()
		_, _ = hosts.Pgctrl(ctx, "etcd", "compact")
		_, _ = hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-server")
		if _, err := hosts.Pgctrl(ctx, "unset", cluster, "services/primary"); err != nil {
			t.Error(err)
		}
		statusReady(ctx, t)
	})

	o := observeVIP(t)
	samplers := append(sampleAll(ctx, t, 200*time.Millisecond), probe.Start(ctx, throughVIP(ctx, t), 100*time.Millisecond, 25, nil))
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-server"))
	ok(t, hosts.Put(ctx, doc, "maxconn: 778\n"))
	raiseNoSpace(ctx, t)
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-server"))
	for _, h := range hosts.Nodes {
		ok(t, h.Kill(ctx, "pgagent.service", "SIGKILL")) // systemd starts it again
	}
	killed := time.Now()
	statusSays(ctx, t, "NoSpace", "pgctrl etcd compact")
	ok(t, fleet.Until(ctx, agent.PresenceTTL+10*time.Second, "the presence of every killed agent to end", func(ctx context.Context) error {
		r, err := hosts.Etcd.Get(ctx, hosts.Layout.AliveKey(""), withPrefix()...)
		if err == nil && len(r.Kvs) > 0 {
			err = fmt.Errorf("%d nodes are present", len(r.Kvs))
		}
		return err
	}))
	// Once more, by agents that nobody knows of, and for longer than an address lives.
	for _, h := range hosts.Nodes {
		must[string](t)(h.Exec(ctx, "systemctl", "restart", "pgagent"))
	}
	hold(ctx, plan.AddressLifetime+time.Second)
	for _, h := range hosts.Nodes {
		if out := must[string](t)(h.Exec(ctx, "pgagent", "status")); !strings.Contains(out, "NoSpace") {
			t.Errorf("pgagent status on %s does not say that etcd is full:\n%s", h.Name, out)
		}
	}
	if after := fingerprint(ctx, t); after != before {
		t.Errorf("the hosts changed while etcd was full.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	t.Logf("etcd was full for %s after the agents were killed", time.Since(killed))
	t.Log(must[string](t)(hosts.Pgctrl(ctx, "etcd", "compact")))
	statusReady(ctx, t)
	for _, h := range hosts.Nodes {
		if cfg := must[[]byte](t)(h.ReadFile(ctx, "/etc/haproxy/"+cluster+".cfg")); !strings.Contains(string(cfg), "maxconn 778") {
			t.Errorf("%s does not have what was written just before etcd was full", h.Name)
		}
	}
	o.judged(t)
	for i, samples := range stopAll(samplers) {
		n := probe.Count(samples)
		t.Logf("sampler %d: %v", i, n)
		if bad := failures(samples); bad > 0 {
			t.Errorf("sampler %d: %d of %d writes failed", i, bad, len(samples))
		}
	}
	now := desiredKeys(ctx, t)
	if now[doc] == "" {
		t.Errorf("%s is gone", doc)
	}
	delete(now, doc)
	if fmt.Sprint(now) != fmt.Sprint(documents) {
		t.Errorf("documents are not what they were:\n%v\n%v", documents, now)
	}
	if now, _ := leaderAndNext(ctx, t); now != leader {
		t.Errorf("the leader moved from %s to %s", leader, now)
	}
}

// desiredKeys are all documents.
func desiredKeys(ctx context.Context, t *testing.T) map[string]string {
	t.Helper()
	r, err := hosts.Etcd.Get(ctx, hosts.Layout.DesiredPrefix(), withPrefix()...)
	ok(t, err)
	all := map[string]string{}
	for _, e := range r.Kvs {
		all[string(e.Key)] = string(e.Value)
	}
	return all
}

// raiseNoSpace puts etcd into the state in which a full database puts it. Filling two
// gigabytes would show the same and take longer.
func raiseNoSpace(ctx context.Context, t *testing.T) {
	t.Helper()
	members, err := hosts.Etcd.MemberList(ctx)
	ok(t, err)
	_, err = etcdserverpb.NewMaintenanceClient(hosts.Etcd.ActiveConnection()).Alarm(ctx, &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: members.Members[0].ID, Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	ok(t, err)
	if _, err := hosts.Etcd.Put(ctx, hosts.Layout.RootPrefix()+"refused", "x"); err == nil {
		t.Fatal("etcd takes writes; this proves nothing")
	}
}
