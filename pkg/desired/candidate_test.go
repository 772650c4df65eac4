package desired

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

func TestCandidate(t *testing.T) {
	second := func(port int) map[string][]byte {
		w := map[string][]byte{l.ClusterDoc("d", "members/d-1"): []byte("node: pg1")}
		for doc, text := range BlockDocuments(port) {
			w[l.ClusterDoc("d", doc)] = text
		}
		return w
	}
	one := func(doc, text string) map[string][]byte {
		return map[string][]byte{l.DesiredPrefix() + doc: []byte(text)}
	}
	for _, c := range []struct {
		name, cluster string
		writes        map[string][]byte
		want          string
	}{
		{"fine", "c", one("clusters/c/postgres", "port: 5440"), ""},
		{"own mistake", "c", one("clusters/c/postgres", "prot: 5440"),
			`clusters/c/postgres: line 1, column 1: unknown field "prot"; did you mean "port"?`},
		{"a hook", "c", one("clusters/c/hooks/a", "events: [leader.chnged]\nwebhook: {url: http://localhost:1}"),
			`clusters/c/hooks/a: line 1, column 9: events: unknown kind of event "leader.chnged"; did you mean "leader.changed"?`},
		{"a hook of the fleet", "", one("hooks/a", "webhook: {url: http://localhost:1}"),
			`hooks/a: expected something in events or before, found nothing; the hook would never be called`},
		{"a default nobody uses", "", one("defaults/members", "weigth: 5"),
			`defaults/members: line 1, column 1: unknown field "weigth"; did you mean "weight"?`},
		{"a default that breaks a cluster", "", one("defaults/postgres", "ttl: 20s"),
			`defaults/postgres: line 1, column 6: ttl: expected loop_wait + 2 * retry_timeout to be at most ttl, found 10s + 2 * 10s = 30s and ttl 20s; set ttl to 30s or more`},
		{"a member moves", "c", one("clusters/c/members/c-1", "node: pg9"),
			`clusters/c/members/c-1: line 1, column 7: node: expected a node with a document, found "pg9", which has none; did you mean "pg1"?
clusters/c/members/c-1: line 1, column 7: node: expected pg1, because a member's node never changes, found pg9; add a member on pg9 and remove this one`},
		{"a node goes", "", map[string][]byte{l.Node("pg3"): nil},
			`clusters/c/members/c-3: line 1, column 7: node: expected a node with a document, found "pg3", which has none; did you mean "pg1"?`},
		{"a second cluster on free ports", "d", second(100), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, say(New(Candidate(fleet(), l, c.cluster, c.writes))), c.want)
		})
	}
	ps := Candidate(fleet(), l, "d", second(0))
	if len(ps) != 10 || ps[0].Reason != observed.PortConflict || fmt.Sprint(ps[0].Nodes) != "[pg1]" {
		t.Errorf("a second cluster on the same ports: %v", ps)
	}
}

// TestCandidateLeavesOldProblemsAlone: what was wrong before must keep nobody from
// putting something else right.
func TestCandidateLeavesOldProblemsAlone(t *testing.T) {
	s := fleet("clusters/c/services/primary", "port: a\nprot: 1", "clusters/c/members/a/b", "x")
	ps := Candidate(s, l, "c", map[string][]byte{l.ClusterDoc("c", "postgres"): []byte("port: 5440")})
	if len(ps) != 2 || !ps[0].Existing || len(New(ps)) != 0 {
		t.Error(ps)
	}
	ps = Candidate(s, l, "c", map[string][]byte{l.ClusterDoc("c", "services/primary"): []byte("\nport: a")})
	if len(ps) != 1 || !ps[0].Existing || ps[0].Line != 2 {
		t.Error(ps)
	}
}

func TestPortBlock(t *testing.T) {
	s := fleet()
	all := LoadAll(s, l)
	if b := PortBlock(all, "d", []string{"pg1", "pg9"}); b != 100 {
		t.Error("second cluster:", b)
	}
	if b := PortBlock(all, "d", []string{"pg9"}); b != 0 {
		t.Error("first cluster of a node:", b)
	}
	if b := PortBlock(all, "c", []string{"pg1"}); b != 0 {
		t.Error("the cluster itself:", b)
	}
	var got []string
	for _, doc := range sortedKeys(BlockDocuments(100)) {
		got = append(got, doc+": "+strings.ReplaceAll(strings.TrimSpace(string(BlockDocuments(100)[doc])), "\n", ", "))
	}
	want(t, strings.Join(got, "\n"), `backup: server_port: 8532
monitor: postgres_port: 9730, pgbouncer_port: 9731
pgbouncer: port: 6532
postgres: port: 5532, rest_port: 8108
services/default: port: 5536
services/offline: port: 5538
services/primary: port: 5533
services/replica: port: 5534
services/stats: port: 9201`)
}

func TestChanges(t *testing.T) {
	for _, c := range []struct{ document, old, new, want string }{
		{"postgres", "port: 5432", "", ""},
		{"postgres", "maximum_lag_on_failover: 2MB # x", `{"maximum_lag_on_failover": "2048kB"}`, ""},
		{"postgres", "parameters: {TimeZone: UTC}", "parameters: {timezone: UTC}", ""},
		{"postgres", "", "port: 5440\nttl: 60s\nparameters: {shared_buffers: 1GB, work_mem: 8MB}",
			"port 5432 -> 5440 restart\nparameters.shared_buffers  -> 1GB restart\nparameters.work_mem  -> 8MB reload\nttl 30s -> 1m reload"},
		{"services/primary", "port: 6000", "enabled: false", "port 6000 -> 5433 move\nenabled true -> false move"},
		{"services/replica", "", "role: offline", "role replica -> offline reload\nfallback primary -> replica reload\nmax_lag 16MB -> 0B reload"},
		{"nodes/pg1", "address: 10.0.0.1", "address: 10.0.0.2\nroles: [infra]", "address 10.0.0.1 -> 10.0.0.2 move\nroles  -> [infra] reload"},
		{"members/c-1", "node: pg1", "", "node pg1 ->  rebuild"},
	} {
		var got []string
		cs := Changes(c.document, []byte(c.old), []byte(c.new))
		for _, x := range cs {
			got = append(got, fmt.Sprintf("%s %s -> %s %s", x.Field, x.Old, x.New, x.Effect))
		}
		want(t, strings.Join(got, "\n"), c.want)
	}
	if e := Strongest(Changes("postgres", nil, []byte("port: 5440\nttl: 60s"))); e != Restart {
		t.Error(e)
	}
	before := Load(fleet("defaults/postgres", "port: 5500", "clusters/c/postgres", "port: 5600"), l, "c")
	after := Load(fleet("defaults/postgres", "port: 5500"), l, "c")
	if cs := ChangesBetween(before, after, "postgres"); len(cs) != 1 || cs[0].Old != "5600" || cs[0].New != "5500" {
		t.Error(cs)
	}
}
