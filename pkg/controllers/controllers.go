// Package controllers is the contract between the engine and the controllers.
//
// A controller is a pure function: documents and observations of one cluster in,
// the complete set of its output keys out. It does no I/O, keeps nothing between
// calls and takes the time as an argument, so a test is a snapshot and a golden
// file. The engine writes the difference, fenced by its election.
package controllers

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Access declares a family of keys, or a part of it, that a controller reads or
// writes. The declarations are enforced: a snapshot refuses what was not
// declared, and the engine refuses to start when two controllers declare the
// same output. They also generate the etcd roles and the controller graph.
type Access struct {
	Family keys.Family
	// Part narrows the family: a document kind ("members") for Desired and
	// Defaults, a concern for Plan and Observed, the part below the scope for
	// Patroni ("leader", "members"). Empty means all of it.
	Part string
	// Fleet says that a change in any cluster concerns every cluster (ports on a
	// shared node). Without it a change wakes only its own cluster; families
	// without a cluster (nodes, defaults, alive) always wake all.
	Fleet bool
}

// Controller is one concern.
type Controller interface {
	// Name is the concern's name; it appears in logs, metrics and conditions.
	Name() string
	// Inputs lists everything Plan reads.
	Inputs() []Access
	// Outputs lists everything Plan may write; no other controller may write it.
	Outputs() []Access
	// Plan decides. It must be deterministic: equal input, equal bytes. An error
	// is a fault of the program or of an input that no condition can express; it
	// is retried. What people can put right is a condition in the result.
	Plan(in Input) (Result, error)
}

// Shared is a controller of programs that the clusters on a node share. It is asked once
// for the whole fleet, with keys.NodeCluster as the cluster, whenever anything that it
// reads changes in any cluster; nobody else may write plans there.
type Shared interface {
	Controller
	// Shared does nothing; having it says so.
	Shared()
}

// IsShared reports whether a controller is asked for nodes and not for clusters.
func IsShared(c Controller) bool {
	_, is := c.(Shared)
	return is
}

// Input is all a controller may know.
type Input struct {
	// Cluster is keys.NodeCluster for a Shared controller.
	Cluster string
	Layout  keys.Layout
	// Snapshot holds the declared inputs and the controller's own outputs, of
	// every cluster, exact for one revision. Reading anything else panics.
	Snapshot kv.Snapshot
	Now      time.Time
}

// Mode says how an output is written.
type Mode int

const (
	// Write replaces the key when its content differs.
	Write Mode = iota
	// Once creates the key when it does not exist and never changes it: for what
	// is decided once, when a cluster forms.
	Once
	// Mint creates the key with a secret when it does not exist: what the output's Recipe
	// says, a random password without one. Value is ignored; the controller never sees
	// the secret.
	Mint
	// Keep leaves the key as it is, whatever it holds. Value is ignored.
	Keep
	// Delete removes the key if it exists, guarded like every write. It is for what a
	// document's removal has left behind, once the hosts have said that nothing of it
	// runs any more; that an input is missing is never a reason for it (R6).
	Delete
)

// Output is one key a controller wants. A key that exists but is not among the
// outputs is kept: absence is not deletion (R6).
type Output struct {
	Key   string
	Value []byte
	Mode  Mode
	// Recipe says what Mint makes.
	Recipe Recipe
}

// Recipe is what is to be made of a secret that no controller sees. What comes from an
// authority waits until there is one.
type Recipe struct {
	Kind Kind
	// From is the key of the authority: another output of the same controller.
	From string
	// Name is whose it is, and Names the names and addresses of a certificate.
	Name  string
	Names []string
}

// Kind is a sort of secret.
type Kind int

const (
	// Password is a random one.
	Password Kind = iota
	// Authority is a key to sign with and its certificate.
	Authority
	// AuthorityCertificate is the certificate alone of the authority From.
	AuthorityCertificate
	// Certificate is a server's, signed by the authority From, with its key.
	Certificate
	// Peer is a certificate with its key that programs which have it show one another: each
	// trusts it and nothing else.
	Peer
)

// Result is a controller's complete answer for one cluster.
type Result struct {
	Outputs []Output
	// Conditions say what is wrong or waited for. When a document can't be used
	// the controller returns conditions and no outputs: last good plans stay (R4).
	Conditions []observed.Condition
	// After asks to be called again when nothing changed until then; 0 means never.
	After time.Duration
}
