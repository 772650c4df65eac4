package topology

import (
	"slices"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// TestWhoseName: a cluster that is called like another's replicas or member is that one's
// business, on whatever nodes it is: the name leads to it from then on.
func TestWhoseName(t *testing.T) {
	l := keys.Default
	s := kv.NewMap(kv.KV{Key: l.ClusterDoc("pg-test", "members/pg-test-1"), Value: []byte("node: pg1")})
	for name, want := range map[string][]string{
		"pg-test-replica": {"pg-test"}, "pg-test-2": {"pg-test"}, "pg-test": nil, "other-one": nil, "pg-test2": nil, "plain": nil,
	} {
		if got := whoseName(s, l, name); !slices.Equal(got, want) {
			t.Errorf("%s is %v's, want %v", name, got, want)
		}
	}
}
