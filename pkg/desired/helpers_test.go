package desired

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

var l = keys.Default

// docs is a snapshot of documents, written by the tail of their key ("nodes/pg1",
// "clusters/c/postgres") in the order of the pairs.
func docs(pairs ...string) *kv.Map {
	var kvs []kv.KV
	for i := 0; i < len(pairs); i += 2 {
		kvs = append(kvs, kv.KV{Key: l.DesiredPrefix() + pairs[i], Value: []byte(pairs[i+1])})
	}
	return kv.NewMap(kvs...)
}

// fleet is three nodes and a cluster c of three members, and more.
func fleet(more ...string) *kv.Map {
	return docs(append([]string{
		"nodes/pg1", "address: 10.10.10.11",
		"nodes/pg2", "address: 10.10.10.12",
		"nodes/pg3", "address: 10.10.10.13",
		"clusters/c/members/c-1", "node: pg1",
		"clusters/c/members/c-2", "node: pg2",
		"clusters/c/members/c-3", "node: pg3",
	}, more...)...)
}

// say is problems as lines, without the prefix that all keys have.
func say(ps []Problem) string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString(strings.TrimPrefix(p.String(), l.DesiredPrefix()) + "\n")
	}
	return b.String()
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
