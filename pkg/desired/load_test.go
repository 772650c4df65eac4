package desired

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

func TestDefaultsWithoutDocuments(t *testing.T) {
	c := Load(fleet(), l, "c")
	if len(c.Problems) > 0 || len(Check(c, nil)) > 0 {
		t.Fatal(c.Problems, Check(c, nil))
	}
	var got []string
	for _, s := range c.ServiceList() {
		got = append(got, fmt.Sprintf("%s %d %s %s %s", s.Name, s.Port, s.Role, s.Fallback, s.MaxLag))
	}
	want(t, strings.Join(got, "\n"), `default 5436 primary none 0B
offline 5438 offline replica 0B
primary 5433 primary none 0B
replica 5434 replica primary 16MB`)
	p := c.Postgres
	if p.Port != 5432 || p.RestPort != 8008 || p.Version != 0 || p.TTL.Std() != 30*time.Second || !p.FailsafeMode ||
		p.SynchronousMode != "off" || p.DataDir("c", 15) != "/var/lib/postgresql/15/c" || p.Parameters == nil {
		t.Errorf("postgres: %+v", p)
	}
	if c.Stats.Port != 9101 || !c.Stats.Enabled || c.Services["stats"] != nil {
		t.Errorf("stats: %+v", c.Stats)
	}
	m := c.Members["c-1"]
	if m.Name != "c-1" || m.Weight != 100 || !m.CanLead() || m.Tags == nil || m.ModRevision != 4 {
		t.Errorf("member: %+v", m)
	}
	if c.CreateRevision != 4 || c.Revision != 6 || !c.Exists() {
		t.Errorf("revisions: created %d, newest %d", c.CreateRevision, c.Revision)
	}
}

func TestLayers(t *testing.T) {
	c := Load(fleet(
		"defaults/postgres", "ttl: 60s\nparameters: {work_mem: 8MB, jit: off, max_connections: 50}",
		"defaults/services", "inter: 500ms\nmaxconn: 5",
		"defaults/services/primary", "inter: 1s\nport: 6433",
		"defaults/services/reports", "port: 6440\nrole: offline",
		"defaults/members", "weight: 10",
		"clusters/c/postgres", "loop_wait: 5s\nparameters: {Work_Mem: 16MB}",
		"clusters/c/services/primary", "maxconn: 7",
		"clusters/c/services/default", "enabled: false",
	), l, "c")
	if len(c.Problems) > 0 {
		t.Fatal(c.Problems)
	}
	if diff := cmp.Diff(map[string]any{"work_mem": "16MB", "jit": "off", "max_connections": int64(50)}, c.Postgres.Parameters); diff != "" {
		t.Error(diff)
	}
	s := c.Services["primary"]
	if s.Inter.String() != "1s" || s.Port != 6433 || s.MaxConn != 7 || c.Services["replica"].MaxConn != 5 || c.Members["c-1"].Weight != 10 {
		t.Errorf("primary: %+v", s)
	}
	if c.Services["reports"].Fallback != "replica" || c.Services["default"].Enabled || len(c.ServiceList()) != 4 {
		t.Error("services")
	}
	var got []string
	for _, e := range c.Effective("postgres") {
		if e.Source != "built in" {
			got = append(got, fmt.Sprintf("%s=%s %s %s %s", e.Field, e.Value, e.Source, strings.TrimPrefix(e.Key, l.DesiredPrefix()), e.Effect))
		}
	}
	want(t, strings.Join(got, "\n"), `parameters.jit=off default defaults/postgres reload
parameters.max_connections=50 default defaults/postgres restart
parameters.work_mem=16MB document clusters/c/postgres reload
ttl=1m default defaults/postgres reload
loop_wait=5s document clusters/c/postgres reload`)
}

// TestR4InvalidKinds: one bad document spoils its kind and no other, and a member
// nobody can read keeps its cluster's age and ports.
func TestR4InvalidKinds(t *testing.T) {
	c := Load(fleet("clusters/c/members/c-1", "node: pg1\nx: 1", "clusters/c/services/primary", "port: a"), l, "c")
	if !c.Invalid("members") || !c.Invalid("services") || c.Invalid("postgres") || c.Invalid("nodes") {
		t.Error("invalid:", c.invalid)
	}
	if c.Members["c-1"] != nil || len(c.Members) != 2 || c.Services["primary"] != nil || c.Services["replica"] == nil {
		t.Error("members", c.Members, "services", c.Services)
	}
	if !slices.Contains(c.Ports()[0].Nodes, "pg1") {
		t.Error("the port of a member that can't be read is free:", c.Ports()[0])
	}
	one := Load(docs("nodes/pg1", "address: 10.0.0.1", "clusters/b/members/b-1", "node: pg1\nx: 1"), l, "b")
	if !one.Exists() {
		t.Error("a cluster whose member can't be read does not exist")
	}
}

// TestBrokenNode: a node's document concerns the clusters with a member there.
func TestBrokenNode(t *testing.T) {
	s := fleet("nodes/pg1", "address: x", "nodes/pg9", "address: y", "clusters/d/members/d-1", "node: pg2")
	c, d := Load(s, l, "c"), Load(s, l, "d")
	if !c.Invalid("nodes") || d.Invalid("nodes") || len(c.Problems) != 1 {
		t.Error(c.Problems, d.Problems)
	}
	if ps := Check(c, nil); len(ps) > 0 {
		t.Error("follow-up problems:", ps)
	}
	if nodes, ps := Nodes(s, l); len(nodes) != 2 || len(ps) != 2 {
		t.Error(nodes, ps)
	}
}

// strict is a snapshot that, as a controller's, refuses what was not declared.
type strict struct {
	*kv.Map
	t       *testing.T
	allowed []string
}

func (s strict) Get(key string) (kv.KV, bool) { s.see(key); return s.Map.Get(key) }
func (s strict) Range(p string) []kv.KV       { s.see(p); return s.Map.Range(p) }
func (s strict) see(key string) {
	if !slices.ContainsFunc(s.allowed, func(a string) bool { return strings.HasPrefix(key, l.DesiredPrefix()+a) || key == a }) {
		s.t.Errorf("reads %s, which nobody declared", key)
	}
}

func TestLoadReadsOnlyItsKinds(t *testing.T) {
	for kind, allowed := range map[string][]string{
		"members":  {"nodes/", "clusters/c/members/", "defaults/members"},
		"postgres": {"nodes/", "clusters/c/postgres", "defaults/postgres", l.FormedKey("c")},
		"services": {"nodes/", "clusters/c/services/", "defaults/services"},
	} {
		c := Load(strict{fleet(), t, allowed}, l, "c", kind)
		if !c.Loaded(kind) || len(c.kinds) != 1 {
			t.Error(kind, c.kinds)
		}
		Check(c, []*Cluster{c})
	}
}

func TestClustersDoNotMix(t *testing.T) {
	s := fleet("clusters/c2/members/c2-1", "node: pg1", "clusters/c2/postgres", "port: 6000")
	if c := Load(s, l, "c"); len(c.Members) != 3 || c.Postgres.Port != 5432 {
		t.Error(c.Members)
	}
	if got := Clusters(s, l); !slices.Equal(got, []string{"c", "c2"}) {
		t.Error(got)
	}
}

func TestConditions(t *testing.T) {
	c := Load(fleet("clusters/c/postgres", "ttl: 5s"), l, "c")
	got := c.Problems[0].Condition()
	if diff := cmp.Diff(observed.Condition{
		Type: observed.Valid, Status: observed.False, Reason: observed.InvalidDocument,
		Message: `line 1, column 6: ttl: expected a duration from 20s to 1h, found "5s"`,
		Next:    "pgctrl explain postgres", Key: l.ClusterDoc("c", "postgres"),
	}, got); diff != "" {
		t.Error(diff)
	}
}
