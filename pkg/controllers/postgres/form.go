package postgres

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// form decides once what names data. Before that it says what it waits for;
// afterwards, which documents say something else than what was decided.
func form(in controllers.Input, t *topology.Topology) ([]controllers.Output, []observed.Condition) {
	key := in.Layout.FormedKey(in.Cluster)
	if e, ok := in.Snapshot.Get(key); ok {
		if t.Formed == nil {
			return nil, []observed.Condition{{
				Type: observed.Planned, Status: observed.False, Reason: observed.Internal, Key: key,
				Message: "the record of how the cluster formed can't be read",
			}}
		}
		return []controllers.Output{{Key: key, Value: e.Value, Mode: controllers.Once}}, fixed(t)
	}
	byAge := t.Docs.MemberList()
	slices.SortStableFunc(byAge, func(a, b *desired.Member) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
	v, cs := pickVersion(in, t, byAge)
	var first *desired.Member
	for _, m := range byAge {
		if _, alive := t.Alive(m.Node); alive && m.CanLead() && first == nil {
			first = m
		}
		if d := &t.Docs.Restore; d.On() && d.Repository == desired.RepositoryLocal {
			break // nobody but the first has that folder
		}
	}
	if v == 0 || first == nil {
		return nil, cs
	}
	doc := &t.Docs.Postgres
	return []controllers.Output{{Key: key, Mode: controllers.Once, Value: observed.Encode(observed.Formed{
		Schema: observed.Schema, UID: uid(t), Version: v, Port: doc.Port, RESTPort: doc.RestPort,
		DataDirectory: doc.DataDir(in.Cluster, v), Namespace: in.Layout.Patroni, Scope: in.Cluster, First: first.Name,
	})}}, cs
}

// uid tells this cluster from an earlier or later one of the same name: another
// etcd, or the members' documents written anew, is another cluster.
func uid(t *topology.Topology) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d", t.Store.Incarnation, t.Docs.Name, t.Docs.CreateRevision))
	return hex.EncodeToString(sum[:])[:16]
}

// pickVersion is the document's version, else the newest that all the members'
// nodes have; 0 while that can't be said. The document's version needs one node
// with a member that can lead; a default needs to hear from all, or a node that
// comes a second later could not run it.
func pickVersion(in controllers.Input, t *topology.Topology, members []*desired.Member) (int, []observed.Condition) {
	var cs []observed.Condition
	var common []int
	heard, ready := 0, false
	for _, m := range members {
		a, alive := t.Alive(m.Node)
		if !alive {
			cs = append(cs, waitingForNode(in, m))
			continue
		}
		ready = ready || m.CanLead()
		if heard++; heard == 1 {
			common = slices.Clone(a.PostgreSQL)
		}
		common = slices.DeleteFunc(common, func(v int) bool { return !slices.Contains(a.PostgreSQL, v) })
	}
	want := t.Docs.Postgres.Version
	switch {
	case heard == 0 || want != 0 && !ready || want == 0 && heard < len(members):
		return 0, cs
	case want != 0 && slices.Contains(common, want):
		return want, cs
	case want == 0 && len(common) > 0:
		return slices.Max(common), cs
	}
	return 0, append(cs, unavailable(in, t, members, want))
}

func waitingForNode(in controllers.Input, m *desired.Member) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.WaitingForNode,
		Key:     in.Layout.AliveKey(m.Node),
		Message: fmt.Sprintf("the agent of node %s, where %s is to run, has not announced itself", m.Node, m.Name),
		Next:    fmt.Sprintf("pgagent status (on %s)", m.Node),
	}
}

func unavailable(in controllers.Input, t *topology.Topology, members []*desired.Member, want int) observed.Condition {
	var has []string
	for _, m := range members {
		a, alive := t.Alive(m.Node)
		if !alive {
			continue
		}
		vs := "none"
		if len(a.PostgreSQL) > 0 {
			vs = strings.Trim(fmt.Sprint(a.PostgreSQL), "[]")
		}
		has = append(has, m.Node+": "+vs)
	}
	slices.Sort(has)
	c := observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.VersionUnavailable,
		Key:     in.Layout.ClusterDoc(in.Cluster, "postgres"),
		Message: fmt.Sprintf("no PostgreSQL version is installed on all nodes (%s)", strings.Join(has, "; ")),
		Next:    "pgagent check (on each node)",
	}
	if want != 0 {
		c.Message = fmt.Sprintf("PostgreSQL %d is not installed on all nodes (%s)", want, strings.Join(has, "; "))
	}
	return c
}

// fixed lists what a document says now that was decided differently when the
// cluster formed. A default that floats is no such thing: only what somebody
// wrote is worth a word.
func fixed(t *topology.Topology) []observed.Condition {
	f := t.Formed
	was := map[string]string{
		"version": strconv.Itoa(f.Version), "port": strconv.Itoa(f.Port),
		"rest_port": strconv.Itoa(f.RESTPort), "data_directory": f.DataDirectory,
	}
	var cs []observed.Condition
	for _, e := range t.Docs.Effective("postgres") {
		old, once := was[e.Field]
		if !once || e.Key == "" || e.Value == old || e.Field == "version" && e.Value == "0" {
			continue
		}
		cs = append(cs, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.FixedAtForming, Key: e.Key,
			Message: fmt.Sprintf("%s: the cluster formed with %s, which stays; %s has no effect", e.Field, old, e.Value),
			Next:    fmt.Sprintf("pgctrl set %s postgres %s=%s", t.Docs.Name, e.Field, old),
		})
	}
	return cs
}
