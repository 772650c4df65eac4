package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// TestExamplesAreTrue: both ways of writing an example give the same document, it
// sets the field, and nothing is wrong with it in a cluster of three.
func TestExamplesAreTrue(t *testing.T) {
	l := keys.Default
	fleet := kv.NewMap(
		kv.KV{Key: l.Node("pg1"), Value: []byte("address: 10.10.10.11")},
		kv.KV{Key: l.Node("pg2"), Value: []byte("address: 10.10.10.12")},
		kv.KV{Key: l.Node("pg3"), Value: []byte("address: 10.10.10.13")},
		kv.KV{Key: l.ClusterDoc(cluster, "postgres"), Value: []byte("tls: allow")}, // for rules about hostssl
		kv.KV{Key: l.ClusterDoc(cluster, "members/pg-test-1"), Value: []byte("node: pg1")},
		kv.KV{Key: l.ClusterDoc(cluster, "members/pg-test-2"), Value: []byte("node: pg2")},
		kv.KV{Key: l.ClusterDoc(cluster, "members/pg-test-3"), Value: []byte("node: pg3")},
	)
	for _, k := range desired.Kinds() {
		for _, f := range k.Fields {
			set, put := example(k, f)
			words := strings.SplitN(put, " ", 4)
			key, text := words[2], []byte(strings.Trim(words[3], "'"))
			assignment := set[strings.LastIndex(set, " ")+1:]
			if quoted := strings.Split(set, "'"); len(quoted) == 3 {
				assignment = quoted[1]
			}
			document := k.Name + "/" + samples[k.Name].name
			base := samples[k.Name].base
			if other := samples[k.Name].instead[f.Path]; other != nil {
				base = other
			}
			typed, err := desired.SetFields(document, nil, slices.Concat(base, samples[k.Name].with[f.Path], []string{assignment}))
			if err != nil {
				t.Errorf("%s: %v", set, err)
				continue
			}
			if d := desired.Changes(document, typed, text); len(d) > 0 {
				t.Errorf("%s\n%s\nare two documents: %v", set, put, d)
			}
			if !strings.Contains(string(typed), f.Path[strings.LastIndexByte(f.Path, '.')+1:]+":") {
				t.Errorf("%s does not set %s", set, f.Path)
			}
			if ps := desired.Candidate(fleet, l, "", map[string][]byte{key: text}); len(ps) > 0 {
				t.Errorf("%s\n%v", put, desired.Problems(ps))
			}
		}
	}
}
