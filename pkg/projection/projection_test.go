package projection

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

var (
	l    = keys.Default
	seen = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

const at = 500 // the revision of every change in these tests

// change is one key of a transaction at revision 500; the key was written at 400 before.
func change(key string, was, is any) Change {
	c := Change{Key: key}
	if b := bytesOf(was); b != nil {
		c.Old = &kv.KV{Key: key, Value: b, ModRevision: 400, CreateRevision: 300}
	}
	if b := bytesOf(is); b != nil {
		c.New = &kv.KV{Key: key, Value: b, ModRevision: at, CreateRevision: at}
		if c.Old != nil {
			c.New.CreateRevision = 300
		}
	}
	return c
}

func bytesOf(v any) []byte {
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		return []byte(v)
	}
	return observed.Encode(v)
}

// line is an event as a test spells it: what tells it from others, in a fixed order.
func line(e events.Event) string {
	parts := []string{e.ID, string(e.Kind), string(e.Severity), "cluster=" + e.Cluster}
	for _, f := range []struct{ name, value string }{
		{"node", e.Node}, {"member", e.Member}, {"concern", e.Concern}, {"subject", e.Subject}, {"from", e.From}, {"to", e.To},
		{"cause", e.Cause}, {"by", e.By}, {"reason", e.Reason},
	} {
		if f.value != "" {
			parts = append(parts, f.name+"="+f.value)
		}
	}
	if e.Epoch > 0 {
		parts = append(parts, fmt.Sprint("epoch=", e.Epoch))
	}
	if e.Hops > 0 {
		parts = append(parts, fmt.Sprint("hops=", e.Hops))
	}
	return strings.Join(parts, " ") + ": " + e.Message
}

func primary(member string, epoch int64, writable bool) observed.Primary {
	return observed.Primary{Member: member, Node: "n" + member[2:], By: "n" + member[2:], Epoch: epoch, Writable: writable, Timeline: 2}
}

func report(facts map[string]string, conds ...observed.Condition) observed.Report {
	return observed.Report{Schema: 1, Concern: "haproxy", Inputs: 42, Conditions: conds, Facts: facts}
}

func cond(t observed.Type, s observed.Status, r observed.Reason, msg string) observed.Condition {
	return observed.Condition{Type: t, Status: s, Reason: r, Message: msg}
}

func backup(state operations.State, phases ...operations.Phase) operations.Operation {
	return operations.Operation{Schema: 1, Kind: operations.KindBackup, ID: "backup-x", By: "bob@n1", Asked: seen, Ended: seen, State: state, Phases: phases, Label: "20260301F"}
}

func asked(state, hook verdicts.State) verdicts.Verdict {
	return verdicts.Verdict{
		Schema: 1, ID: "restart-x", Cluster: "c", Operation: verdicts.Restart, Subject: "c-1", By: "bob@n1", Why: "ticket 7", State: state,
		Hooks: []verdicts.Hook{{Name: "page", Fleet: true, State: hook, OnTimeout: "refuse", Message: "not now"}},
	}
}

func TestEvents(t *testing.T) {
	ok := cond(observed.Applied, observed.True, "", "")
	waits := cond(observed.Applied, observed.False, observed.RollingOut, "its turn has not come")
	refused := cond(observed.Applied, observed.False, observed.Rejected, "haproxy: line 3: unknown keyword")
	full := cond(observed.Healthy, observed.True, observed.DiskFilling, "about 5 % left")
	invalid := cond(observed.Valid, observed.False, observed.InvalidDocument, `vip: unknown field "adress"`)
	invalid.Key = l.ClusterDoc("c", "vip")
	status := func(conds ...observed.Condition) map[string]any {
		return map[string]any{"cluster": "c", "conditions": conds}
	}
	of := func(node string, c observed.Condition) map[string]any {
		return map[string]any{"conditions": []map[string]any{{"node": node, "type": c.Type, "status": c.Status, "reason": c.Reason}}}
	}
	changes := Change{Key: l.ChangesKey("c"), New: &kv.KV{Value: []byte(`{"who":"bob@pg1","from":"10.0.0.1","why":"ticket 7","cause":"c/77-0"}`)}}
	moves := func(list ...observed.Move) observed.Moves {
		return observed.Moves{Schema: 1, Node: "n1", UID: "u", Moves: list}
	}
	took := observed.Move{Seq: 1, What: observed.MoveRoute, Name: "primary", From: "c-1", To: "c-2", Epoch: 480, At: seen.Add(-time.Second)}
	sees := observed.Move{Seq: 2, What: observed.MoveLeader, To: "c-2", Epoch: 480, At: seen}
	added := observed.Move{Seq: 3, What: observed.MoveVIPAdded, Name: "10.0.0.9", Epoch: 480, At: seen}
	named := observed.Move{Seq: 4, What: observed.MoveDNS, Name: "c", From: "c-1", To: "c-2", Epoch: 480, At: seen}

	for _, tc := range []struct {
		name    string
		changes []Change
		want    string // one line each
	}{
		{"a document by pgctrl", []Change{changes, change(l.ClusterDoc("c", "postgres"), "parameters: {work_mem: 4MB}", "parameters: {work_mem: 8MB}")},
			`500-0 document.changed info cluster=c subject=postgres from=400 to=500 cause=77-0 by=bob@pg1 hops=1: postgres parameters.work_mem: 4MB -> 8MB (reload) (ticket 7)`},
		{"a document by etcdctl", []Change{change(l.ClusterDoc("c", "members/c-1"), nil, "node: n1")},
			`500-0 document.changed info cluster=c subject=members/c-1 to=500: members/c-1 node=n1 (rebuild)`},
		{"a document that means the same", []Change{change(l.ClusterDoc("c", "dns"), "ttl: 1s", "# why\nttl: 1s")},
			`500-0 document.changed info cluster=c subject=dns from=400 to=500: dns was written again and means the same`},
		{"a document that is gone", []Change{change(l.ClusterDoc("c", "vip"), "address: 10.0.0.9/24", nil)},
			`500-0 document.removed notice cluster=c subject=vip from=400: vip was deleted`},
		{"documents of the fleet", []Change{change(l.Node("n1"), nil, "address: 10.0.0.1"), change(l.DefaultsDoc("dns"), nil, "ttl: 2s")},
			`500-0 document.changed info cluster=_fleet node=n1 subject=nodes/n1 to=500: nodes/n1 address=10.0.0.1 (move)
500-1 document.changed info cluster=_fleet subject=defaults/dns to=500: defaults/dns ttl: 1s -> 2s (reload)`},
		{"a hook's address is not told", []Change{change(l.ClusterDoc("c", "hooks/page"), nil, "events: [leader.lost]\nwebhook: {url: \"https://x.example/token-1\"}")},
			`500-0 document.changed info cluster=c subject=hooks/page to=500: hooks/page events, webhook.url`},

		{"the leader key goes", []Change{change(l.Leader("c"), "c-1", nil)},
			`500-0 leader.lost warning cluster=c member=c-1 from=c-1: nobody leads: the leader key of c-1 is gone`},
		{"somebody takes it", []Change{change(l.Leader("c"), nil, "c-2")},
			`500-0 leader.changed notice cluster=c member=c-2 to=c-2 epoch=500: c-2 leads`},
		{"it is overwritten", []Change{change(l.Leader("c"), "c-1", "c-2")},
			`500-0 leader.changed notice cluster=c member=c-2 from=c-1 to=c-2 epoch=500: c-2 leads in the place of c-1`},
		{"it is stamped anew", []Change{change(l.Leader("c"), "c-1", "c-1")},
			`500-0 leader.changed info cluster=c member=c-1 from=c-1 to=c-1 epoch=500: c-1 leads on, under a leader key written anew`},
		{"a heartbeat", []Change{change(l.Members("c")+"c-1", `{"xlog_location":1}`, `{"xlog_location":2}`), change(l.Scope("c")+"status", "1", "2")}, ``},
		{"a member goes and comes", []Change{change(l.Members("c")+"c-1", `{}`, nil), change(l.Members("c")+"c-2", nil, `{}`)},
			`500-0 member.lost warning cluster=c member=c-1: Patroni's key of c-1 is gone: its Patroni has stopped, or does not reach etcd
500-1 member.back info cluster=c member=c-2: Patroni says that c-2 is there`},
		{"the leader's event is the first", []Change{change(l.ClusterDoc("c", "vip"), "enabled: true", nil), change(l.Leader("c"), nil, "c-2")},
			`500-0 leader.changed notice cluster=c member=c-2 to=c-2 epoch=500: c-2 leads
500-1 document.removed notice cluster=c subject=vip from=400: vip was deleted`},

		{"a primary is confirmed", []Change{change(l.PrimaryKey("c"), primary("c-1", 400, true), primary("c-2", 480, true))},
			`500-0 primary.confirmed notice cluster=c node=n2 member=c-2 from=c-1 to=c-2 cause=480-0 by=n2 epoch=480: c-2 takes writes (timeline 2)`},
		{"and once more", []Change{change(l.PrimaryKey("c"), primary("c-2", 480, true), primary("c-2", 480, true))}, ``},
		{"it is withdrawn", []Change{change(l.PrimaryKey("c"), primary("c-2", 480, true), primary("c-2", 480, false))},
			`500-0 primary.withdrawn warning cluster=c node=n2 member=c-2 from=c-2 cause=480-0 by=n2 epoch=480: c-2 takes no writes any more`},
		{"a cluster is removed", []Change{change(l.PrimaryKey("c"), primary("c-2", 480, true), nil)}, ``},

		{"a pooler dies", []Change{change(l.ReadyKey("c", "c-1"), observed.Ready{Member: "c-1", Node: "n1", Pooler: "up"}, observed.Ready{Member: "c-1", Node: "n1", Pooler: "down", Why: "killed"})},
			`500-0 pooler.down warning cluster=c node=n1 member=c-1 concern=pgbouncer from=up to=down: the pooler of c-1 does not serve: killed`},
		{"and lives", []Change{change(l.ReadyKey("c", "c-1"), observed.Ready{Member: "c-1", Node: "n1", Pooler: "down"}, observed.Ready{Member: "c-1", Node: "n1", Pooler: "up"})},
			`500-0 pooler.up info cluster=c node=n1 member=c-1 concern=pgbouncer from=down to=up: the pooler of c-1 serves`},
		{"an agent begins to vouch", []Change{change(l.ReadyKey("c", "c-1"), nil, observed.Ready{Member: "c-1", Node: "n1", Pooler: "up"})}, ``},

		{"a node has moved", []Change{change(l.MovesKey("n1", "c"), moves(took), moves(took, sees, added, named))},
			`500-0 vip.taken info cluster=c node=n1 concern=vip subject=10.0.0.9 cause=480-0 epoch=480: 10.0.0.9 is on n1
500-1 dns.moved info cluster=c node=n1 concern=dns subject=c from=c-1 to=c-2 cause=480-0 epoch=480: on n1 c leads to c-2`},
		{"of another cluster of the name", []Change{change(l.MovesKey("n1", "c"), observed.Moves{UID: "former", Moves: []observed.Move{{Seq: 9}}}, moves(took))},
			`500-0 route.moved info cluster=c node=n1 concern=haproxy subject=primary from=c-1 to=c-2 cause=480-0 epoch=480: n1 sends primary to c-2`},

		{"a host refuses", []Change{change(l.ObservedKey("n1", "c", "haproxy"), report(nil, waits), report(nil, refused))},
			`500-0 apply.failed warning cluster=c node=n1 concern=haproxy cause=42 reason=Rejected: haproxy: line 3: unknown keyword`},
		{"and takes it", []Change{change(l.ObservedKey("n1", "c", "haproxy"), report(nil, refused), report(nil, ok))},
			`500-0 apply.done info cluster=c node=n1 concern=haproxy cause=42 reason=Rejected: haproxy is in force on n1, and was Rejected`},
		{"a rollout", []Change{change(l.ObservedKey("n1", "c", "haproxy"), report(nil, ok), report(nil, waits))}, ``},
		{"what could not be asked", []Change{change(l.ObservedKey("n1", "c", "haproxy"), report(nil, ok), report(nil, cond(observed.Applied, observed.Unknown, observed.NotAnswering, "no answer")))}, ``},
		{"drift", []Change{change(l.ObservedKey("n1", "c", "haproxy"), report(nil, ok), report(map[string]string{"repaired": "1 times; last /etc/haproxy/c.cfg: content"}, ok))},
			`500-0 drift.repaired notice cluster=c node=n1 concern=haproxy: put back on n1, 1 times; last /etc/haproxy/c.cfg: content`},
		{"what nodes share", []Change{change(l.ObservedKey("n1", keys.NodeCluster, "dns"), report(nil, ok), report(nil, refused))},
			`500-0 apply.failed warning cluster=_fleet node=n1 concern=dns cause=42 reason=Rejected: haproxy: line 3: unknown keyword`},

		{"a document is refused", []Change{change(l.StatusKey("c"), status(), status(invalid))},
			`500-0 document.refused warning cluster=c subject=/pgctrl/desired/clusters/c/vip reason=InvalidDocument: vip: unknown field "adress"`},
		{"and mended", []Change{change(l.StatusKey("c"), status(invalid), status())},
			`500-0 document.accepted info cluster=c subject=/pgctrl/desired/clusters/c/vip reason=InvalidDocument: not InvalidDocument any more`},
		{"what a node's agent says itself", []Change{change(l.StatusKey("c"), status(), of("n1", refused))}, ``},

		{"a backup is asked for", []Change{change(l.OperationKey("c", "backup-x"), nil, backup(operations.Waiting, operations.Phase{Name: "stanza"}))},
			`500-0 operation.asked info cluster=c subject=backup-x by=bob@n1: backup was asked for`},
		{"a hook asks for one", []Change{change(l.OperationKey("c", "backup-x"), nil, operations.Operation{Schema: 1, Kind: operations.KindBackup, ID: "backup-x", By: "root@n1", Cause: "c/77-0+2", Asked: seen, State: operations.Waiting})},
			`500-0 operation.asked info cluster=c subject=backup-x cause=77-0 by=root@n1 hops=2: backup was asked for`},
		{"it begins", []Change{change(l.OperationKey("c", "backup-x"), backup(operations.Waiting, operations.Phase{Name: "backup"}),
			backup(operations.Running, operations.Phase{Name: "backup", State: operations.PhaseRunning, Node: "n1", Member: "c-1", Epoch: plan.Epoch(480)}))},
			`500-0 operation.phase info cluster=c node=n1 member=c-1 subject=backup-x to=backup cause=300 by=bob@n1 epoch=480: backup is at backup`},
		{"it is done", []Change{change(l.OperationKey("c", "backup-x"), backup(operations.Running, operations.Phase{Name: "backup", State: operations.PhaseRunning}),
			backup(operations.Done, operations.Phase{Name: "backup", State: operations.PhaseDone, Node: "n1", Member: "c-1", Epoch: plan.Epoch(480)}))},
			`500-0 backup.done info cluster=c node=n1 member=c-1 subject=backup-x to=20260301F cause=300 by=bob@n1 epoch=480: backup is done`},
		{"it failed", []Change{change(l.OperationKey("c", "backup-x"), backup(operations.Running), backup(operations.Failed))},
			`500-0 backup.failed critical cluster=c subject=backup-x cause=300 by=bob@n1: backup failed`},
		{"the token", []Change{change(l.TokenKey("c"), nil, operations.Holder{Operation: "restart-x"})}, ``},

		{"hooks are asked", []Change{change(l.VerdictKey("c", "restart-x"), nil, asked(verdicts.Asking, verdicts.Asking))}, ``},
		{"one wants to be asked later", []Change{change(l.VerdictKey("c", "restart-x"), asked(verdicts.Asking, verdicts.Asking), asked(verdicts.Asking, verdicts.Delayed))}, ``},
		{"they allow it", []Change{change(l.VerdictKey("c", "restart-x"), asked(verdicts.Asking, verdicts.Asking), asked(verdicts.Allowed, verdicts.Allowed))}, ``},
		{"one refuses", []Change{change(l.VerdictKey("c", "restart-x"), asked(verdicts.Asking, verdicts.Asking), asked(verdicts.Refused, verdicts.Refused))},
			`500-0 operation.vetoed warning cluster=c member=c-1 subject=restart-x cause=300 by=bob@n1: hook page (fleet) refuses restart of c-1 (c): not now (ticket 7)`},
		{"one does not answer", []Change{change(l.VerdictKey("c", "restart-x"), asked(verdicts.Asking, verdicts.Asking), asked(verdicts.Refused, verdicts.Timeout))},
			`500-0 operation.vetoed warning cluster=c member=c-1 subject=restart-x cause=300 by=bob@n1: hook page (fleet) gave no answer to restart of c-1 (c) (not now), and on_timeout says that this means no (ticket 7)`},
		{"and it is written again", []Change{change(l.VerdictKey("c", "restart-x"), asked(verdicts.Refused, verdicts.Refused), asked(verdicts.Refused, verdicts.Refused))}, ``},
		{"nobody is asked", []Change{change(l.VerdictKey("c", "restart-x"), nil, verdicts.Override(asked(verdicts.Asking, verdicts.Asking), "bob@n1"))},
			`500-0 operation.overridden notice cluster=c member=c-1 subject=restart-x by=bob@n1: restart of c-1 (c) goes on without asking page (fleet) (ticket 7)`},
		{"a verdict goes", []Change{change(l.VerdictKey("c", "restart-x"), asked(verdicts.Refused, verdicts.Refused), nil)}, ``},

		{"an agent goes", []Change{change(l.AliveKey("n1"), observed.Alive{}, nil), change(l.AliveKey("n9"), observed.Alive{}, nil)},
			`500-0 agent.lost warning cluster=c node=n1: the agent of n1 is away; what it holds in force stays
500-1 agent.lost warning cluster=d node=n1: the agent of n1 is away; what it holds in force stays
500-2 agent.lost warning cluster=_fleet node=n9: the agent of n9 is away; what it holds in force stays`},
		{"a disk fills", []Change{change(l.AliveKey("n1"), observed.Alive{}, observed.Alive{Notes: []observed.Condition{full}})},
			`500-0 health.lost notice cluster=c node=n1 reason=DiskFilling: about 5 % left
500-1 health.lost notice cluster=d node=n1 reason=DiskFilling: about 5 % left`},
		{"another server leads", []Change{change(l.ElectionKey(), nil, "infra2"), change(l.ServerKey("infra1"), `{}`, nil)},
			`500-0 server.leads info cluster=_fleet to=infra2: the server infra2 plans
500-1 server.lost warning cluster=_fleet subject=infra1: the server infra1 is away`},
		{"a receiver fails", []Change{change(l.DeliveryState("c", "page"), hooks.State{Created: 9}, hooks.State{Created: 9, FailingSince: &seen, Error: "connection refused"})},
			`500-0 hook.failing warning cluster=c subject=hooks/page: hook page does not take events: connection refused`},
		{"and fails on", []Change{change(l.DeliveryState("c", "page"), hooks.State{FailingSince: &seen, Attempt: 1}, hooks.State{FailingSince: &seen, Attempt: 2})}, ``},
		{"and takes them", []Change{change(l.DeliveryState(keys.Fleet, "page"), hooks.State{FailingSince: &seen}, hooks.State{})},
			`500-0 hook.back info cluster=_fleet subject=hooks/page: hook page takes events again`},
		{"events went before a hook had them", []Change{change(l.DeliveryState("c", "page"), hooks.State{}, hooks.State{Missed: &hooks.Missed{At: seen, After: hooks.Cursor{Revision: 70}, Through: 99}})},
			`500-0 hook.missed critical cluster=c subject=hooks/page: hook page was too late for events that had to go, after revision 70 and up to 99`},
		{"and more of them", []Change{change(l.DeliveryState("c", "page"), hooks.State{Missed: &hooks.Missed{At: seen, Through: 99}}, hooks.State{Missed: &hooks.Missed{At: seen, Through: 120}})}, ``},
		{"hooks in a circle", []Change{change(l.DeliveryState("c", "page"), hooks.State{}, hooks.State{Reason: hooks.Loop})},
			`500-0 hook.failing warning cluster=c subject=hooks/page reason=Loop: hook page: hooks cause events for one another, and those after the third are not delivered`},
		{"an event is given up", []Change{change(l.DeadLetter("c", "page", "c.77-0"), nil, hooks.Letter{Hook: "page", Attempts: 9, Error: "500"})},
			`500-0 hook.dead warning cluster=c subject=hooks/page cause=77-0: hook page: event c.77-0 was given up after 9 attempts: 500`},
		{"what is asked for again", []Change{change(l.Redelivery("c", "page", "c.77-0"), nil, hooks.Again{})}, ``},
		{"what nobody knows", []Change{change("/pgctrl/elsewhere", nil, "x"), change(l.PrimaryKey("c"), nil, "not JSON"), change(l.ObservedKey("n1", "c", "vip"), nil, "not JSON")}, ``},
	} {
		p := New(l, []string{l.ObservedKey("n1", "c", "postgres"), l.ObservedKey("n1", "d", "postgres"), l.ObservedKey("n1", "e", "haproxy")})
		var got []string
		for _, e := range p.Of(at, tc.changes, seen, false) {
			got = append(got, line(e))
			if e.Schema != events.Schema || !e.Seen.Equal(seen) || e.At.IsZero() {
				t.Errorf("%s: %+v", tc.name, e)
			}
		}
		if s := strings.Join(got, "\n"); s != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, s, tc.want)
		}
	}
}
