package observed

import "time"

// Moves is what one node saw and did when a cluster's leader moved, by the node's own clock: the
// newest MaxMoves of them, the oldest first. The node's agent writes it once a move is over, so
// that nothing of it is in the way of one.
type Moves struct {
	Schema int    `json:"schema"`
	Node   string `json:"node"`
	// UID is the cluster's, and Store the etcd's that the epochs are of.
	UID   string `json:"uid,omitempty"`
	Store string `json:"store,omitempty"`
	Moves []Move `json:"moves"`
}

// MaxMoves is how many a record keeps: ten moves of a node with four services, and what belongs
// to each.
const MaxMoves = 128

// Move is one thing that a node saw or did.
type Move struct {
	// Seq counts a node's moves of a cluster, so that a reader of two records finds the new ones.
	// An agent goes on counting from its last record.
	Seq int64 `json:"seq"`
	// At is by the node's clock, in milliseconds.
	At   time.Time `json:"at"`
	What MoveKind  `json:"what"`
	// Name is what moved: a service (route), an address with its network's length (vip), a name (dns).
	Name string `json:"name,omitempty"`
	// From and To are members; several are separated by commas.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Epoch is the mod revision of the leader key that the node went by, of MoveLost that of the key
	// that is gone; 0: none, or the node's view of etcd was too old or not trusted.
	Epoch int64 `json:"epoch,omitempty"`
}

// MoveKind is what a node saw or did.
type MoveKind string

// What a node sees and does in a move, in the usual order.
const (
	// MoveLost: the leader key is gone, as this node saw it.
	MoveLost MoveKind = "leader-lost"
	// MoveLeader: the leader key names To, as this node saw it.
	MoveLeader MoveKind = "leader"
	// MoveWritable: this node's own PostgreSQL was seen to have left recovery.
	MoveWritable MoveKind = "writable"
	// MoveConfirmed: the record of the primary names To, as this node saw or wrote it.
	MoveConfirmed MoveKind = "confirmed"
	// MoveRoute: this node's HAProxy was told to send service Name to To.
	MoveRoute MoveKind = "route"
	// MoveVIPAdded and MoveVIPRemoved: the address Name is on this node, or not any more.
	MoveVIPAdded   MoveKind = "vip-added"
	MoveVIPRemoved MoveKind = "vip-removed"
	// MovePooler: this node's pooler is To: up, down or alone.
	MovePooler MoveKind = "pooler"
	// MoveDNS: this node's dnsmasq was given To for Name.
	MoveDNS MoveKind = "dns"
)
