// Package status says how a cluster is: what was asked for, what is planned, what
// is in force, who leads, where clients go, and why it is not done.
//
// It is one pure function over what etcd holds, so `pgctrl status` is right when no
// server runs, and the status controller writes the same answer for watchers.
// Roles come from Patroni's leader key, never from a document.
package status

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Input is all that a status is computed from.
type Input struct {
	// Snapshot is everything readable: all families but the secrets, which are never
	// looked at even when they are there.
	Snapshot kv.Snapshot
	Layout   keys.Layout
	Now      time.Time
	Cluster  string
	// Store is how etcd itself is; nil: nobody asked it.
	Store *StoreHealth
	// Results: the snapshot has those of steps, to say how far operations are.
	Results bool
	// Concerns are the controllers whose plans make up the cluster: all.Concerns().
	Concerns []controllers.Controller
	// Shared are those of what clusters on a node share: all.Shared().
	Shared []controllers.Controller
}

// ClusterStatus is the answer about one cluster.
type ClusterStatus struct {
	Cluster string `json:"cluster"`
	// Ready: everything asked for is in force and the cluster takes writes. Notes
	// (see Blocking) do not stand in its way.
	Ready bool `json:"ready"`
	// Exists: some document asks for the cluster. One without is left as it is.
	Exists bool `json:"exists"`
	// PostgreSQL is the major version; 0 before the cluster formed.
	PostgreSQL int `json:"postgresql,omitempty"`
	// Revision is the newest revision of the cluster's documents, defaults and nodes.
	Revision int64 `json:"revision"`
	// Applied of Nodes nodes have everything in force.
	Applied int `json:"applied"`
	Nodes   int `json:"nodes"`
	// Leader is the member in Patroni's leader key, Primary the one confirmed to
	// take writes; empty when there is none.
	Leader  string `json:"leader,omitempty"`
	Primary string `json:"primary,omitempty"`
	// Epoch is the mod revision of the leader key.
	Epoch    int64 `json:"epoch,omitempty"`
	Timeline int64 `json:"timeline,omitempty"`
	Paused   bool  `json:"paused,omitempty"`
	// Controller is the server that plans at present; empty when none does.
	Controller string `json:"controller,omitempty"`
	// Standbys are the servers that would take over from it at once.
	Standbys []string `json:"standbys,omitempty"`
	// Freeze is what people asked to leave alone; nil when it has ended.
	Freeze *Freeze `json:"freeze,omitempty"`
	// Conditions are what is not so, worst first, and notes after them.
	Conditions []Condition `json:"conditions,omitempty"`
	Members    []Member    `json:"members,omitempty"`
	Services   []Service   `json:"services,omitempty"`
	// VIP is nil when the cluster has no virtual address.
	VIP *VIP `json:"vip,omitempty"`
	// Backups is nil while the cluster is not backed up.
	Backups *Backups `json:"backups,omitempty"`
	// Operations are those that go on, the oldest first.
	Operations []Task `json:"operations,omitempty"`
	// Kept are data on the members' hosts that a restore in place has left.
	Kept []Kept `json:"kept,omitempty"`
}

// Kept is what a restore in place left until a person says that it may go.
type Kept struct {
	Operation string    `json:"operation"`
	Since     time.Time `json:"since"`
	Members   []string  `json:"members"`
	// Folder begins the names of the directories.
	Folder string `json:"folder"`
}

// Condition is one answer, and which concern and node it is about.
type Condition struct {
	Concern string `json:"concern,omitempty"`
	Node    string `json:"node,omitempty"`
	observed.Condition
}

// Freeze is a document freeze that holds.
type Freeze struct {
	// Concerns are left alone; empty is all.
	Concerns []string  `json:"concerns,omitempty"`
	Until    time.Time `json:"until"`
	Owner    string    `json:"owner,omitempty"`
	Reason   string    `json:"reason,omitempty"`
}

// Member is one line about a member.
type Member struct {
	Name string `json:"name"`
	Node string `json:"node,omitempty"`
	// Address is the node's.
	Address string `json:"address,omitempty"`
	// Role is Leader, StandbyLeader or Replica; empty when nobody leads.
	Role string `json:"role,omitempty"`
	// State is Patroni's word, such as running, streaming or stopped; empty when
	// Patroni says nothing of the member.
	State    string `json:"state,omitempty"`
	Timeline int64  `json:"timeline,omitempty"`
	// Follows: a replica that runs on the leader's timeline and streams, as its node's
	// agent sees it; without an agent's word, as Patroni says (3.0.3 and later).
	Follows bool `json:"follows,omitempty"`
	// Lag is how many bytes it is behind the leader; nil when not known.
	Lag *int64 `json:"lag,omitempty"`
	// Pooler is up or down, as its node's agent says; empty when nobody does.
	Pooler         string `json:"pooler,omitempty"`
	PendingRestart bool   `json:"pending_restart,omitempty"`
	Offline        bool   `json:"offline,omitempty"`
	// Delay is how late it replays on purpose; empty: not at all.
	Delay string `json:"delay,omitempty"`
	// Confirmed: it leads and its PostgreSQL was seen to take writes.
	Confirmed bool `json:"confirmed,omitempty"`
	// Unmanaged: no document describes it.
	Unmanaged bool `json:"unmanaged,omitempty"`
	// VIP is the cluster's virtual address when it is on the member's node.
	VIP     string `json:"vip,omitempty"`
	Patroni string `json:"patroni,omitempty"`
}

// The roles a member is shown with.
const (
	Leader        = "Leader"
	StandbyLeader = "Standby leader"
	Replica       = "Replica"
)

// VIP is the cluster's virtual address.
type VIP struct {
	// Address is the address alone.
	Address string `json:"address"`
	// Member and Node have it; empty: nobody has.
	Member string `json:"member,omitempty"`
	Node   string `json:"node,omitempty"`
}

// Service is one line about a service.
type Service struct {
	Name string `json:"name"`
	Port int    `json:"port"`
	// Role is the document's: primary, replica or offline.
	Role string `json:"role"`
	// Via is what connections go to on the member.
	Via string `json:"via"`
	// Targets are the members clients reach when all nodes agree; else empty.
	Targets []string `json:"targets"`
	Agree   bool     `json:"agree"`
	// Nodes are each node's targets; a node that said nothing yet is missing.
	Nodes map[string][]string `json:"nodes,omitempty"`
	// Right of Total nodes lead where they should.
	Right int `json:"right"`
	Total int `json:"total"`
}

// Line is one cluster among all.
type Line struct {
	Cluster string `json:"cluster"`
	Ready   bool   `json:"ready"`
	// Worst is the most important condition; nil when there is nothing to say.
	Worst    *Condition `json:"worst,omitempty"`
	Leader   string     `json:"leader,omitempty"`
	Members  int        `json:"members"`
	Revision int64      `json:"revision"`
	Applied  int        `json:"applied"`
	Nodes    int        `json:"nodes"`
}
