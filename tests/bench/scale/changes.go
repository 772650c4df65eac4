package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// documents are the changes that are measured, by the concern whose plan they make.
var documents = []struct{ name, concern, document, value string }{
	{"document postgres to its plan", "postgres", "postgres", "parameters:\n  work_mem: %dMB\n"},
	{"document services to its plan", "haproxy", "services/primary", "maxconn: %d\n"},
}

// The two that stand beside them.
const (
	bare  = "bare put, seen by a watch"
	relay = "bare put, watch, put, watch"
)

// aside is where the bare puts go; no program looks there.
const aside = "/pgctrl-scale/"

// round is the times of each way in one round.
type round map[string][]time.Duration

// changes measures rounds of changes. One of each kind follows another, so that all
// have the same etcd, disk and neighbours at the same moment.
func changes(ctx context.Context, c *clientv3.Client, o options) ([]round, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	plans := c.Watch(ctx, layout.Prefix(keys.Plan), clientv3.WithPrefix())
	puts := c.Watch(ctx, aside+"out/", clientv3.WithPrefix())
	// As long as a plan, which is what the controllers put.
	go passOn(ctx, c, strings.Repeat("x", 7000))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var out []round
	next := 0
	for i := range o.rounds {
		r := round{}
		for j := range o.changes {
			sample := func(name string, watch clientv3.WatchChan, key, value string, is func(key string) bool) error {
				<-tick.C
				took, err := seen(ctx, c, watch, key, value, is)
				r[name] = append(r[name], took)
				return err
			}
			number := 100 + i*o.changes + j
			if err := sample(bare, puts, aside+"out/bare", fmt.Sprint(number), nil); err != nil {
				return nil, err
			}
			if err := sample(relay, puts, aside+"in/relay", fmt.Sprint(number), nil); err != nil {
				return nil, err
			}
			for _, d := range documents {
				cluster := clusterName(next)
				next++
				is := func(key string) bool { return strings.HasSuffix(key, "/"+cluster+"/"+d.concern) }
				if err := sample(d.name, plans, layout.ClusterDoc(cluster, d.document), fmt.Sprintf(d.value, number), is); err != nil {
					return nil, err
				}
			}
		}
		out = append(out, r)
	}
	return out, nil
}

// seen puts a key and returns how long it took until the watch showed one that is
// meant.
func seen(ctx context.Context, c *clientv3.Client, watch clientv3.WatchChan, key, value string, is func(string) bool) (time.Duration, error) {
	started := time.Now()
	if _, err := c.Put(ctx, key, value); err != nil {
		return 0, fmt.Errorf("put %s: %w", key, err)
	}
	late := time.After(time.Minute)
	for {
		select {
		case r, ok := <-watch:
			if !ok || r.Err() != nil {
				return 0, fmt.Errorf("watch after the put of %s: %w", key, r.Err())
			}
			for _, ev := range r.Events {
				if is == nil || is(string(ev.Kv.Key)) {
					return time.Since(started), nil
				}
			}
		case <-late:
			return 0, fmt.Errorf("%w for what the put of %s makes", errTimeout, key)
		}
	}
}

// passOn is the least that makes one key of another: it watches and puts.
func passOn(ctx context.Context, c *clientv3.Client, value string) {
	for r := range c.Watch(ctx, aside+"in/", clientv3.WithPrefix()) {
		for range r.Events {
			_, _ = c.Put(ctx, aside+"out/relay", value) // the sample says so when it fails
		}
	}
}
