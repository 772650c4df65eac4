package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

var layout = keys.Default

const members = 3

// fleet writes what people, agents and Patroni would have written for n clusters.
// Each has three nodes to itself.
type fleet struct {
	c *clientv3.Client
	n int
}

func clusterName(i int) string { return fmt.Sprintf("pg-%05d", i) }

func memberName(cluster string, j int) string { return fmt.Sprintf("%s-%d", cluster, j+1) }

func nodeName(i, j int) string { return fmt.Sprintf("n%05d", members*i+j) }

func address(i, j int) string { return fmt.Sprintf("10.%d.%d.%d", 10+j, i/250, 1+i%250) }

func put(key string, record any) clientv3.Op {
	switch v := record.(type) {
	case string:
		return clientv3.OpPut(key, v)
	default:
		return clientv3.OpPut(key, string(observed.Encode(v)))
	}
}

// write puts keys, as many at a time as etcd takes.
func (f *fleet) write(ctx context.Context, ops []clientv3.Op) error {
	for batch := range slices.Chunk(ops, 120) {
		if _, err := f.c.Txn(ctx).Then(batch...).Commit(); err != nil {
			return fmt.Errorf("write %d keys: %w", len(batch), err)
		}
	}
	return nil
}

// documents writes what people write, and the agents' presences.
func (f *fleet) documents(ctx context.Context) error {
	var ops []clientv3.Op
	for i := range f.n {
		cluster := clusterName(i)
		for j := range members {
			node := nodeName(i, j)
			ops = append(ops,
				put(layout.Node(node), "address: "+address(i, j)+"\n"),
				put(layout.AliveKey(node), observed.Alive{
					Schema: observed.Schema, Node: node, Address: address(i, j), MachineID: node, Version: "v1", PlanSchema: 1,
					PostgreSQL: []int{15}, Programs: map[string]string{"patroni": "3.0.2", "haproxy": "2.6.12", "pgbackrest": "2.45"},
				}),
				put(layout.ClusterDoc(cluster, "members/"+memberName(cluster, j)), "node: "+node+"\n"))
		}
		ops = append(ops, put(layout.ClusterDoc(cluster, "postgres"), "parameters:\n  work_mem: 16MB\n"))
	}
	return f.write(ctx, ops)
}

// system is every cluster's system identifier.
const system = "7300000000000000000"

// patroni writes what Patroni writes for one cluster once its first member runs.
func patroni(i int) []clientv3.Op {
	cluster := clusterName(i)
	scope := layout.Scope(cluster)
	ops := []clientv3.Op{
		put(scope+"initialize", system),
		put(scope+"config", dynamic),
		put(scope+"status", `{"optime":83886080,"slots":{}}`),
	}
	for j := range members {
		role := "replica"
		if j == 0 {
			role = "master"
		}
		ops = append(ops, put(layout.Members(cluster)+memberName(cluster, j), fmt.Sprintf(
			`{"conn_url":"postgres://%[1]s:5432/postgres","api_url":"http://%[1]s:8008/patroni","state":"running","role":"%[2]s","version":"3.0.2","xlog_location":83886080,"timeline":1}`,
			address(i, j), role)))
	}
	return append(ops, put(layout.Leader(cluster), memberName(cluster, 0)))
}

// dynamic is Patroni's dynamic configuration, as long as a real one.
var dynamic = `{"ttl":30,"loop_wait":10,"retry_timeout":10,"maximum_lag_on_failover":1048576,"failsafe_mode":true,"postgresql":{"use_pg_rewind":true,"use_slots":true,"parameters":{` +
	strings.TrimSuffix(strings.Repeat(`"log_autovacuum_min_duration":"1min",`, 16), ",") + `}}}`

// start plays every cluster's Patroni: as soon as a cluster has formed it has a
// leader. It returns when all have one.
func (f *fleet) start(ctx context.Context, from int64) error {
	formed := layout.Prefix(keys.Formed)
	watch := f.c.Watch(ctx, formed, clientv3.WithPrefix(), clientv3.WithRev(from))
	for led := 0; led < f.n; {
		r, ok := <-watch
		if !ok || r.Err() != nil {
			return fmt.Errorf("watch clusters form: %w", r.Err())
		}
		var ops []clientv3.Op
		for _, ev := range r.Events {
			i := 0
			if _, err := fmt.Sscanf(strings.TrimPrefix(string(ev.Kv.Key), formed), "pg-%d", &i); err != nil || !ev.IsCreate() {
				continue
			}
			ops, led = append(ops, patroni(i)...), led+1
		}
		if err := f.write(ctx, ops); err != nil {
			return err
		}
	}
	return nil
}

// each reads all keys of a family, in pages.
func (f *fleet) each(ctx context.Context, prefix string, do func(*mvccpb.KeyValue)) error {
	for from := prefix; ; {
		r, err := f.c.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(500))
		if err != nil {
			return fmt.Errorf("read %s: %w", prefix, err)
		}
		for _, e := range r.Kvs {
			do(e)
		}
		if !r.More {
			return nil
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// count is how many keys a family has, and the store's revision.
func (f *fleet) count(ctx context.Context, prefix string) (int64, int64) {
	r, err := f.c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return -1, 0
	}
	return r.Count, r.Header.Revision
}

// size is what one family of keys holds.
type size struct {
	family string
	keys   int
	bytes  int
}

func (f *fleet) sizes(ctx context.Context) ([]size, error) {
	var out []size
	for _, s := range []struct{ family, prefix string }{
		{"documents", layout.DesiredPrefix()}, {"plans", layout.Prefix(keys.Plan)},
		{"reports", layout.Prefix(keys.Observed)}, {"statuses", layout.Prefix(keys.Status)},
		{"everything", layout.RootPrefix()}, {"Patroni's", layout.Prefix(keys.PatroniKey)},
	} {
		got := size{family: s.family}
		err := f.each(ctx, s.prefix, func(e *mvccpb.KeyValue) {
			got.keys, got.bytes = got.keys+1, got.bytes+len(e.Key)+len(e.Value)
		})
		if err != nil {
			return nil, err
		}
		out = append(out, got)
	}
	return out, nil
}
