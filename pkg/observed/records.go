package observed

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Schema is the version of the records in this file. An agent or server that
// reads a higher one refuses the record as a whole.
const Schema = 1

// Primary is the confirmed primary: the leader, once somebody saw that its
// PostgreSQL takes writes. It is worth what the leader key says: with another
// member there, or after another member was seen there, it confirms nothing.
type Primary struct {
	Member  string `json:"member"`
	Node    string `json:"node"`
	Address string `json:"address"`
	Port    int    `json:"port"`
	// Epoch is the mod revision of Patroni's leader key that was confirmed.
	Epoch int64 `json:"epoch"`
	// Sequence orders records of one epoch: confirmed, withdrawn, confirmed again.
	Sequence int64 `json:"sequence"`
	// Writable is false when the primary was withdrawn under the same epoch.
	Writable bool   `json:"writable"`
	Timeline int64  `json:"timeline"`
	System   string `json:"system"`
	// By is the node whose agent confirmed it; another node than Node when the
	// leader's own agent stayed silent.
	By string `json:"by"`
	// Store is the incarnation of the etcd that Epoch is a revision of, and UID the
	// cluster's. A record of another incarnation confirms nothing: epochs are ordered
	// within one.
	Store string `json:"store,omitempty"`
	UID   string `json:"uid,omitempty"`
}

// Replaces reports whether p may overwrite old: a later epoch, or the next
// sequence under the same one.
func (p Primary) Replaces(old Primary) bool {
	return p.Epoch > old.Epoch || p.Epoch == old.Epoch && p.Sequence > old.Sequence
}

// Of reports whether the record is about the cluster of that uid and system
// identifier. What is not known on either side (an older writer, a cluster that has
// no identifier yet) contradicts nothing.
func (p Primary) Of(uid, system string) bool {
	return sameIfKnown(p.UID, uid) && sameIfKnown(p.System, system)
}

func sameIfKnown(a, b string) bool { return a == "" || b == "" || a == b }

// VIP says who may have the cluster's virtual address. Held is written before the
// address is added and released after it was removed, so that nobody adds an
// address that another node may still have.
type VIP struct {
	// Address is the address with its network's length.
	Address string `json:"address"`
	Node    string `json:"node"`
	Member  string `json:"member"`
	// Epoch is the mod revision of the leader key under which the record was written.
	Epoch int64  `json:"epoch"`
	State string `json:"state"` // held | released
	// Store and UID are the etcd and the cluster that it was written for.
	Store string `json:"store"`
	UID   string `json:"uid"`
}

// The states of a virtual address.
const (
	VIPHeld     = "held"
	VIPReleased = "released"
)

// HeldBy reports whether the record gives the address to the node.
func (v *VIP) HeldBy(node string) bool { return v != nil && v.Node == node && v.State == VIPHeld }

// FactVIP is the fact of a vip report that is VIPHeld while the address is on the
// node, and absent otherwise.
const FactVIP = "vip"

// Turn is whose turn it is to repair what drifted in a cluster during a freeze, under
// that agent's lease (R15).
type Turn struct {
	Node string `json:"node"`
}

// Alive is a node's leased presence.
type Alive struct {
	Schema int    `json:"schema"`
	Node   string `json:"node"`
	// Address is where the node reaches etcd from; `create` proposes it for a
	// node that has no document yet.
	Address string `json:"address"`
	// MachineID tells two agents under one node name apart.
	MachineID string `json:"machine_id"`
	Version   string `json:"version"`
	// PlanSchema is the newest schema of plans that the agent understands; 0 by an
	// agent from before it was announced, which understands 1.
	PlanSchema int `json:"plan_schema,omitempty"`
	// Programs is what is installed, by name: "patroni" "3.0.2".
	Programs map[string]string `json:"programs"`
	// PostgreSQL lists installed major versions, ascending.
	PostgreSQL []int `json:"postgresql"`
	// Notes are what the agent finds out about the host itself: its clock, room on disk.
	Notes []Condition `json:"notes,omitempty"`
	// Store is there while the agent does not trust this etcd: the one it knows.
	Store *StoreSeen `json:"store,omitempty"`
}

// Server is one pgctrl server's leased presence. Which one leads is in the election.
type Server struct {
	Schema  int    `json:"schema"`
	ID      string `json:"id"`
	Version string `json:"version"`
	// Warm: its view of etcd is complete and fresh, so that it could lead at once.
	Warm bool `json:"warm"`
	// Notes are what the server finds out about etcd.
	Notes []Condition `json:"notes,omitempty"`
}

// Ready is what a member's own agent vouches for, under a lease. A key that is not
// there says nothing.
type Ready struct {
	Schema int    `json:"schema"`
	UID    string `json:"uid,omitempty"`
	Member string `json:"member"`
	Node   string `json:"node"`
	// Pooler is one of PoolerUp, PoolerDown and PoolerAlone. Only an explicit word
	// takes a member out.
	Pooler string `json:"pooler"`
	// Why says in words what is wrong with a pooler that is not up.
	Why string `json:"why,omitempty"`
}

// FactPooler is the fact of a pgbouncer report that says the same.
const FactPooler = "pooler"

// What there is to say of a pooler.
const (
	PoolerUp   = "up"
	PoolerDown = "down"
	// PoolerAlone: it lives and its PostgreSQL takes no connections. It gets no new
	// clients and keeps those it has, who may not even notice.
	PoolerAlone = "alone"
)

// Report is a node's answer to one plan.
type Report struct {
	Schema  int    `json:"schema"`
	Writer  string `json:"writer"`
	Concern string `json:"concern"`
	// UID is the cluster's that the plan in force belongs to; empty before the first.
	UID string `json:"uid,omitempty"`
	// Plan is the mod revision of the plan key this answers.
	Plan int64 `json:"plan"`
	// Inputs is the plan's inputs revision.
	Inputs int64 `json:"inputs"`
	// Loaded is the hash of the resources in force on the host, which is an older
	// plan's while this one is refused.
	Loaded     string      `json:"loaded,omitempty"`
	Conditions []Condition `json:"conditions,omitempty"`
	// Facts are what the host showed: ports, versions, what was taken over.
	Facts map[string]string `json:"facts,omitempty"`
	// Repository is, of a backup report by the leader's agent, what the backup repository
	// holds of the cluster; nil: it was not looked at.
	Repository *Repository `json:"repository,omitempty"`
}

// The facts of a databases report that name what no document describes, with spaces
// between.
const (
	FactOtherRoles     = "other_roles"
	FactOtherDatabases = "other_databases"
)

// FactLogins is the fact of a databases report that lists which of pgctrl's own roles
// the node's PostgreSQL has as the plan says, as far as logging in goes, with spaces
// between: Login or LoginClosed of each.
const FactLogins = "logins"

// Login says that a role can log in with its password of that revision. The mark tells
// one making of the role from another: what was lost in a failover and made again is not
// what a member that was not rewound yet still has.
func Login(role string, revision int64, mark string) string {
	return fmt.Sprintf("%s@%d/%s", role, revision, mark)
}

// LoginSettled is what Login said, once it has been so for a while: whoever read another
// password just before has used it by then.
func LoginSettled(login string) string { return login + "+" }

// LoginClosed says that nobody can log in as the role.
func LoginClosed(role string) string { return role + "@closed" }

// StepState is how far a step is.
type StepState string

// The states of a step. The last three are final.
const (
	// StepAccepted is written before the act: an agent that finds it does not act again.
	StepAccepted StepState = "accepted"
	StepDone     StepState = "done"
	StepRefused  StepState = "refused"
	StepFailed   StepState = "failed"
)

// StepResult is what came of a step, or how far it is.
type StepResult struct {
	Schema int `json:"schema"`
	// Step is the mod revision of the step that it answers.
	Step  int64     `json:"step"`
	State StepState `json:"state"`
	// Before is when PostgreSQL had been started, before the act: once it says another
	// time, the act has come about.
	Before string `json:"before,omitempty"`
	// Waits: Patroni does something else and has not taken the act yet.
	Waits bool `json:"waits,omitempty"`
	// Progress is how far a long act is; nil: it does not say.
	Progress *Progress `json:"progress,omitempty"`
	// Label is the backup that an act made.
	Label string `json:"label,omitempty"`
	// Heartbeat is the row that an act wrote, and Recovered what it restored beside the cluster.
	Heartbeat *Heartbeat `json:"heartbeat,omitempty"`
	Recovered *Recovered `json:"recovered,omitempty"`
	// Hook is how an operator's program ended; nil: none ran, or that is not known.
	Hook    *HookRun `json:"hook,omitempty"`
	Reason  Reason   `json:"reason,omitempty"`
	Message string   `json:"message,omitempty"`
	Next    string   `json:"next,omitempty"`
}

// HookRun is how an operator's program ended.
type HookRun struct {
	// Exit is its exit code; -1 when a signal ended it, whose name is Signal then.
	Exit   int    `json:"exit"`
	Signal string `json:"signal,omitempty"`
	// TimedOut: it was ended because its time was over.
	TimedOut bool `json:"timed_out,omitempty"`
	// Seconds is how long it ran.
	Seconds float64 `json:"seconds"`
	// Output is the beginning of what it wrote to its standard output and error.
	Output string `json:"output,omitempty"`
}

// Progress is how far something is, in parts of a whole.
type Progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	// Unit is what is counted: "B" for bytes, "%" for percent.
	Unit string `json:"unit"`
}

// Final reports that nothing more comes.
func (r StepResult) Final() bool { return r.State != StepAccepted }

// FactReplication is the fact of a postgres report that says how the node's member
// follows, seen on its own PostgreSQL. It is absent while the member leads, takes
// writes, or has not been asked.
const (
	FactReplication = "replication"
	// ReplicationStreaming: a WAL receiver brings WAL.
	ReplicationStreaming = "streaming"
	// ReplicationWaiting: none does, or PostgreSQL does not answer.
	ReplicationWaiting = "waiting"
	// FactRecoveryTimeline is, beside ReplicationWaiting, the timeline that the member
	// recovers along. One higher than the leader's is a fork: it can't follow.
	FactRecoveryTimeline = "recovery_timeline"
	// FactForked is the timeline on which the member led, and of which another member
	// is or was the confirmed primary: two forks have one number.
	FactForked = "forked_timeline"
)

// FactCertificateExpires is the fact of a postgres report that says until when the
// certificate is good that the member shows to clients, as a time of RFC 3339. It is
// absent while it shows none.
const FactCertificateExpires = "certificate_expires"

// Condition returns the report's condition of the given type.
func (r Report) Condition(t Type) (Condition, bool) {
	for _, c := range r.Conditions {
		if c.Type == t {
			return c, true
		}
	}
	return Condition{}, false
}

// Done reports whether the plan at revision rev is in force and works: nothing
// about applying it or about its health is other than true.
func (r Report) Done(rev int64) bool {
	if _, answered := r.Condition(Applied); !answered || r.Plan != rev {
		return false
	}
	for _, c := range r.Conditions {
		if (c.Type == Applied || c.Type == Healthy) && c.Status != True {
			return false
		}
	}
	return true
}

// Refuses reports whether the report says something against what that key describes.
func (r Report) Refuses(key string) bool {
	return slices.ContainsFunc(r.Conditions, func(c Condition) bool { return c.Bad() && c.Key == key })
}

// Of reports whether the report is about the cluster of that uid. One about an earlier
// cluster of the same name is no answer and shows no fact.
func (r Report) Of(uid string) bool { return sameIfKnown(r.UID, uid) }

// Formed is what was decided once, when the cluster formed: a default that names
// data never floats.
type Formed struct {
	Schema int `json:"schema"`
	// UID is minted once; two clusters that had one name at different times differ in it.
	UID           string `json:"uid"`
	Version       int    `json:"version"`
	Port          int    `json:"port"`
	RESTPort      int    `json:"rest_port"`
	DataDirectory string `json:"data_directory"`
	Namespace     string `json:"namespace"`
	Scope         string `json:"scope"`
	// First is the member that initialises the cluster; the others copy from its leader.
	First string `json:"first"`
}

// Encode is the stored form of a record. Records are plain structs, so encoding
// cannot fail.
func Encode(record any) []byte {
	b, err := json.Marshal(record)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", record, err))
	}
	return b
}

// Decode reads a stored record; the error names the key.
func Decode[T any](e kv.KV) (T, error) {
	var v T
	if err := json.Unmarshal(e.Value, &v); err != nil {
		return v, fmt.Errorf("parse %s: %w", e.Key, err)
	}
	return v, nil
}

// Read fetches and decodes a record; false when the key is absent or unreadable.
func Read[T any](s kv.Snapshot, key string) (T, bool) {
	var zero T
	e, ok := s.Get(key)
	if !ok {
		return zero, false
	}
	v, err := Decode[T](e)
	if err != nil {
		return zero, false
	}
	return v, true
}
