package main

import (
	"context"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// agents writes what every node's agent answers once all plans are in force: its
// reports, and that the leader takes writes.
func (f *fleet) agents(ctx context.Context) error {
	leads := map[string]int64{}
	err := f.each(ctx, layout.Prefix(keys.PatroniKey), func(e *mvccpb.KeyValue) {
		if cluster, ok := strings.CutSuffix(string(e.Key), "/leader"); ok {
			leads[strings.TrimPrefix(cluster, layout.Prefix(keys.PatroniKey))] = e.ModRevision
		}
	})
	if err != nil {
		return err
	}
	var ops []clientv3.Op
	var broken error
	err = f.each(ctx, layout.Prefix(keys.Plan), func(e *mvccpb.KeyValue) {
		ref, err := layout.Parse(string(e.Key))
		p, err2 := plan.Decode(e.Value)
		if err != nil || err2 != nil {
			broken = err2
			return
		}
		ops = append(ops, put(layout.ObservedKey(ref.Node, ref.Cluster, ref.Concern), report(ref.Concern, p, e.ModRevision)))
		if own, _ := p.Cluster.Own(); ref.Concern == "postgres" && own.Name == memberName(ref.Cluster, 0) {
			ops = append(ops, put(layout.PrimaryKey(ref.Cluster), observed.Primary{
				Member: own.Name, Node: own.Node, Address: own.Address, Port: own.Port, Epoch: leads[ref.Cluster], Sequence: 1,
				Writable: true, Timeline: 1, System: system, By: own.Node, Store: p.Store, UID: p.UID,
			}))
		}
	})
	if err == nil {
		err = broken
	}
	if err != nil {
		return err
	}
	return f.write(ctx, ops)
}

// report says that a plan is in force and where its routes lead.
func report(concern string, p plan.Plan, revision int64) observed.Report {
	r := observed.Report{
		Schema: observed.Schema, Writer: "v1", Concern: concern, UID: p.UID, Plan: revision, Inputs: p.Inputs.Revision,
		Loaded:     plan.Hash(p.Resources, p.Secrets),
		Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True}},
		Facts:      map[string]string{},
	}
	leader := memberName(p.Cluster.Name, 0)
	for _, res := range p.Resources {
		u, ok := res.(plan.Unit)
		if !ok {
			continue
		}
		r.Facts["version."+u.Program] = "2.6.12"
		for backend, route := range u.Routes {
			var to []string
			for _, s := range route.Servers {
				if (s.Name == leader) == (route.Role == plan.RoutePrimary) {
					to = append(to, s.Name)
				}
			}
			r.Facts["route."+backend] = strings.Join(to, ",")
		}
	}
	if concern == "postgres" && p.Cluster.Member != leader {
		r.Facts[observed.FactReplication] = observed.ReplicationStreaming
	}
	return r
}
