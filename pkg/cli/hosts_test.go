package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// hosts pretends to be a fleet: it answers plans with reports, and writes what
// Patroni would, at once. What it never does is look at documents: like an agent
// it knows plans and nothing else.
type hosts struct {
	ctx    context.Context
	client *store.Client
	layout keys.Layout
	mirror *store.Mirror
	poke   chan struct{}
	done   sync.WaitGroup

	mu      sync.Mutex
	present map[string]string // node to address
	refused map[string]string // node/concern, or node/act, to message
	waits   map[string]bool   // members that wait for a restart
	stalled map[string]bool   // node/act of steps that stay unanswered
}

// testSystem is the system identifier of every pretending cluster.
const testSystem = "7301234567890123456"

func newHosts(ctx context.Context, c *store.Client, l keys.Layout) *hosts {
	h := &hosts{ctx: ctx, client: c, layout: l, poke: make(chan struct{}, 1), present: map[string]string{}, refused: map[string]string{}, waits: map[string]bool{}, stalled: map[string]bool{}}
	h.mirror = store.NewMirror(c, store.MirrorOptions{Name: "hosts", Prefixes: []string{l.RootPrefix(), l.Prefix(keys.PatroniKey)}})
	h.mirror.OnChange(func(int64, []store.Change) { h.wake() })
	h.done.Go(func() { _ = h.mirror.Run(ctx) })
	h.done.Go(h.loop)
	return h
}

func (h *hosts) wait() { h.done.Wait() }

func (h *hosts) wake() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

func (h *hosts) loop() {
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.poke:
		}
		for _, e := range h.mirror.Snapshot().Range(h.layout.Prefix(keys.Plan)) {
			ref, err := h.layout.Parse(e.Key)
			if err == nil && h.address(ref.Node) != "" {
				h.answer(ref, e)
			}
		}
		for _, e := range h.mirror.Snapshot().Range(h.layout.Prefix(keys.Steps)) {
			if ref, err := h.layout.Parse(e.Key); err == nil && h.address(ref.Node) != "" {
				h.step(ref, e)
			}
		}
		h.forget()
	}
}

// step does what was asked: a restart ends what waits for one.
func (h *hosts) step(ref keys.Ref, e kv.KV) {
	s, err := observed.Decode[plan.Step](e)
	key := h.layout.ResultKey(ref.Node, ref.Doc)
	if _, answered := h.mirror.Snapshot().Get(key); err != nil || answered {
		return
	}
	r := observed.StepResult{Schema: observed.Schema, Step: e.ModRevision, State: observed.StepDone, Message: string(s.Act) + " done"}
	h.mu.Lock()
	if h.stalled[ref.Node+"/"+string(s.Act)] || s.Operation != "" { // an operation's are answered by hand
		h.mu.Unlock()
		return
	}
	if words, no := h.refused[ref.Node+"/"+string(s.Act)]; no {
		r.State, r.Reason, r.Message, r.Next = observed.StepFailed, observed.ApplyFailed, words, "journalctl"
	}
	delete(h.waits, s.Member)
	h.mu.Unlock()
	_ = h.put(key, observed.Encode(r))
	for _, e := range h.mirror.Snapshot().Range(h.layout.NodePlans(ref.Node)) {
		if p, err := plan.Decode(e.Value); err == nil && p.Removal == nil && strings.HasSuffix(e.Key, "/postgres") {
			h.patroni(p)
		}
	}
}

// pending makes a member wait for a restart; when it returns Patroni says so.
func (h *hosts) pending(member string) {
	h.mu.Lock()
	h.waits[member] = true
	h.mu.Unlock()
	for _, e := range h.mirror.Snapshot().Range(h.layout.Prefix(keys.Plan)) {
		if p, err := plan.Decode(e.Value); err == nil && p.Cluster.Member == member && strings.HasSuffix(e.Key, "/postgres") {
			h.patroni(p)
		}
	}
}

func (h *hosts) address(node string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.present[node]
}

func (h *hosts) add(node, address string) error {
	h.mu.Lock()
	h.present[node] = address
	h.mu.Unlock()
	a := observed.Alive{PlanSchema: plan.Schema,
		Schema: observed.Schema, Node: node, Address: address, MachineID: node, Version: "v0.1.0",
		Programs: map[string]string{"patroni": "3.0.4", "haproxy": "2.6.12", "pgbackrest": "2.45", "postgresql": "15.8"}, PostgreSQL: []int{13, 15},
	}
	return h.put(h.layout.AliveKey(node), observed.Encode(a))
}

func (h *hosts) lose(node string) {
	h.mu.Lock()
	delete(h.present, node)
	h.mu.Unlock()
	_, _ = h.client.Commit(h.ctx, nil, []store.Op{store.Delete(h.layout.AliveKey(node))})
}

func (h *hosts) refuse(node, concern, message string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused[node+"/"+concern] = message
}

func (h *hosts) accept(node, concern string) {
	h.mu.Lock()
	delete(h.refused, node+"/"+concern)
	delete(h.stalled, node+"/"+concern)
	h.mu.Unlock()
	h.wake()
}

// stall leaves a node's steps of an act unanswered until accept.
func (h *hosts) stall(node, act string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stalled[node+"/"+act] = true
}

// put writes what is different; a conflict means that something moved, and the
// mirror will say so.
func (h *hosts) put(key string, value []byte) error {
	e, ok, err := h.client.Get(h.ctx, key)
	if err != nil || ok && bytes.Equal(e.Value, value) {
		return err
	}
	_, err = h.client.Commit(h.ctx, []store.Guard{store.ModIs(key, e.ModRevision)}, []store.Op{store.Put(key, value)})
	if errors.Is(err, store.ErrConflict) {
		h.wake()
		return nil
	}
	return err
}

// answer makes one plan so, as far as anybody can see.
func (h *hosts) answer(ref keys.Ref, e kv.KV) {
	p, err := plan.Decode(e.Value)
	if err != nil {
		return
	}
	if p.Removal != nil {
		h.remove(ref, e, p)
		return
	}
	if ref.Concern == "postgres" {
		h.patroni(p)
	}
	r := observed.Report{
		Schema: observed.Schema, Writer: "v0.1.0", Concern: ref.Concern, Plan: e.ModRevision, Inputs: p.Inputs.Revision,
		Loaded:     plan.Hash(p.Resources, p.Secrets),
		Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True}, {Type: observed.Healthy, Status: observed.True}},
	}
	if ref.Concern == "haproxy" {
		r.Facts = h.routes(p)
	}
	if ref.Concern == "databases" {
		r.Facts = map[string]string{observed.FactOtherRoles: "legacy", observed.FactOtherDatabases: "", observed.FactLogins: logins(p)}
	}
	if p.Freeze.Active(time.Now()) {
		h.freeze(&r, ref, p)
	}
	h.mu.Lock()
	message, refuse := h.refused[ref.Node+"/"+ref.Concern]
	h.mu.Unlock()
	if refuse {
		old, _ := observed.Read[observed.Report](h.mirror.Snapshot(), h.layout.ObservedKey(ref.Node, ref.Cluster, ref.Concern))
		if old.Plan == e.ModRevision {
			return
		}
		r.Loaded = old.Loaded
		r.Conditions = []observed.Condition{
			{Type: observed.Applied, Status: observed.False, Reason: observed.Rejected, Message: message, Next: "pgagent status (on " + ref.Node + ")"},
			{Type: observed.Healthy, Status: observed.True},
		}
	}
	_ = h.put(h.layout.ObservedKey(ref.Node, ref.Cluster, ref.Concern), observed.Encode(r))
}

// logins says that PostgreSQL has all roles of a plan.
func logins(p plan.Plan) string {
	var said []string
	sql, _ := plan.SQLOf(p)
	for _, r := range sql.Roles {
		if r.Login {
			said = append(said, observed.LoginSettled(observed.Login(r.Name, p.Secrets[r.Password], "1")))
		} else {
			said = append(said, observed.LoginClosed(r.Name))
		}
	}
	return strings.Join(said, " ")
}

// freeze keeps what was in force before.
func (h *hosts) freeze(r *observed.Report, ref keys.Ref, p plan.Plan) {
	old, _ := observed.Read[observed.Report](h.mirror.Snapshot(), h.layout.ObservedKey(ref.Node, ref.Cluster, ref.Concern))
	key, next := h.layout.ClusterDoc(ref.Cluster, "freeze"), "pgctrl unfreeze "+ref.Cluster+" "+ref.Concern
	r.Conditions[1] = observed.Condition{Type: observed.Healthy, Status: observed.True, Reason: observed.Frozen, Key: key, Message: "nothing is applied on " + ref.Node, Next: next}
	if old.Loaded != "" && old.Loaded != r.Loaded {
		r.Loaded = old.Loaded
		r.Conditions[0] = observed.Condition{Type: observed.Applied, Status: observed.False, Reason: observed.Frozen, Message: "it is left as it was", Next: next}
	}
}

// routes are where a node's HAProxy leads once everybody runs.
func (h *hosts) routes(p plan.Plan) map[string]string {
	facts := map[string]string{}
	leader, _ := h.mirror.Snapshot().Get(h.layout.Leader(p.Cluster.Name))
	for _, r := range p.Resources {
		u, ok := r.(plan.Unit)
		if !ok {
			continue
		}
		for backend, route := range u.Routes {
			var to []string
			for _, s := range route.Servers {
				if (s.Name == string(leader.Value)) == (route.Role == plan.RoutePrimary) {
					to = append(to, s.Name)
				}
			}
			facts["route."+backend] = strings.Join(to, ",")
		}
	}
	return facts
}

// patroni is a member that comes up: the first one leads, the others stream.
func (h *hosts) patroni(p plan.Plan) {
	own, ok := p.Cluster.Own()
	if !ok {
		return
	}
	scope := h.layout.Scope(p.Cluster.Name)
	_, _ = h.client.Commit(h.ctx, []store.Guard{store.ModIs(scope+"initialize", 0)}, []store.Op{store.Put(scope+"initialize", []byte(testSystem))})
	_, _ = h.client.Commit(h.ctx, []store.Guard{store.ModIs(h.layout.Leader(p.Cluster.Name), 0)}, []store.Op{store.Put(h.layout.Leader(p.Cluster.Name), []byte(own.Name))})
	leader, ok, err := h.client.Get(h.ctx, h.layout.Leader(p.Cluster.Name))
	if err != nil || !ok {
		return
	}
	role := "replica"
	if string(leader.Value) == own.Name {
		role = "master"
	}
	h.mu.Lock()
	waits := h.waits[own.Name]
	h.mu.Unlock()
	member, _ := json.Marshal(map[string]any{
		"pending_restart": waits,
		"conn_url":        "postgres://" + own.Address + "/postgres", "api_url": "http://" + own.Address + ":8008/patroni",
		"state": "running", "role": role, "version": "3.0.4", "timeline": 1, "xlog_location": 67108864, "replication_state": "streaming",
	})
	_ = h.put(h.layout.Members(p.Cluster.Name)+own.Name, member)
	if role != "master" {
		return
	}
	for _, r := range p.Resources {
		if d, ok := r.(plan.Patroni); ok {
			config, _ := json.Marshal(d.Config)
			_ = h.put(scope+"config", config)
		}
	}
	_ = h.put(h.layout.PrimaryKey(p.Cluster.Name), observed.Encode(observed.Primary{
		Member: own.Name, Node: own.Node, Address: own.Address, Port: own.Port, Epoch: leader.ModRevision, Sequence: 1,
		Writable: true, Timeline: 1, System: testSystem, By: own.Node,
	}))
}

// remove answers a removal as an agent does, and takes the member from Patroni.
func (h *hosts) remove(ref keys.Ref, e kv.KV, p plan.Plan) {
	said := ref.Concern + "@" + ref.Cluster + ".service stopped and disabled, its files removed"
	if ref.Concern == "postgres" {
		own := p.Cluster.Member
		leader, _, err := h.client.Get(h.ctx, h.layout.Leader(ref.Cluster))
		if err != nil || string(leader.Value) == own && !p.Removal.Whole {
			return
		}
		ops := []store.Op{store.Delete(h.layout.Members(ref.Cluster) + own)}
		if string(leader.Value) == own {
			ops = append(ops, store.Delete(leader.Key))
		}
		_, _ = h.client.Commit(h.ctx, nil, ops)
		said += "; its data are kept in " + p.Removal.Data + ".removed-x"
	}
	_ = h.put(h.layout.ObservedKey(ref.Node, ref.Cluster, ref.Concern), observed.Encode(observed.Report{
		Schema: observed.Schema, Writer: "v0.1.0", Concern: ref.Concern, Plan: e.ModRevision,
		Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True, Reason: observed.Removed, Message: said}},
	}))
}

// forget deletes the reports of removals whose plans are gone.
func (h *hosts) forget() {
	s := h.mirror.Snapshot()
	for _, e := range s.Range(h.layout.Prefix(keys.Observed)) {
		ref, err := h.layout.Parse(e.Key)
		if err != nil || h.address(ref.Node) == "" {
			continue
		}
		if _, planned := s.Get(h.layout.PlanKey(ref.Node, ref.Cluster, ref.Concern)); planned {
			continue
		}
		r, err := observed.Decode[observed.Report](e)
		if c, ok := r.Condition(observed.Applied); err == nil && ok && c.Reason == observed.Removed {
			_, _ = h.client.Commit(h.ctx, []store.Guard{store.ModIs(e.Key, e.ModRevision)}, []store.Op{store.Delete(e.Key)})
		}
	}
}
