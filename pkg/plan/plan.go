// Package plan is the contract between controllers and agents: what a node must
// converge to, written relative to the leader, and Resolve, which says what of
// it applies at this moment. Types and pure functions only.
//
// A plan names no primary. "This server is up while its member is the confirmed
// primary" is what it says, so a failover changes no plan and needs no
// controller.
package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Schema is the newest version of the plan format that this program knows. An agent
// refuses a higher one as a whole and keeps the last good plan.
const Schema = SchemaHooks

// The schemas: each plan has the lowest that can say it, so that a new kind of
// resource changes no plan that is without it.
const (
	SchemaFirst = 1 // units, Patroni's dynamic configuration, addresses
	SchemaSQL   = 2 // SQL objects
	SchemaSteps = 2 // every agent that does steps knows it
	SchemaTLS   = 3 // certificates in files
	SchemaFiles = 4 // files whose readers notice by themselves
	// SchemaBackup are the steps of backups; no plan needs it.
	SchemaBackup = 5
	// SchemaRestore are the steps that restore beside a cluster and in its place; no plan needs it.
	SchemaRestore = 6
	// SchemaHooks are the steps that run operators' programs; no plan needs it.
	SchemaHooks = 7
)

// MaxSize is the largest plan in bytes: a third of etcd's default request limit
// of 1.5 MiB, so that a transaction can carry a plan and its guards with room.
const MaxSize = 512 << 10

// ErrSchema is returned for a plan written by a newer program.
var ErrSchema = errors.New("plan schema is newer than this program")

// Plan is what one node must converge to for one cluster and concern.
type Plan struct {
	Schema int    `json:"schema"`
	Writer string `json:"writer"`
	// Store is the incarnation of the etcd that the plan was computed in, UID the
	// cluster's; an agent ignores plans of another store or of an earlier cluster
	// of the same name.
	Store string `json:"store"`
	UID   string `json:"uid"`
	// Inputs says which documents the plan reflects.
	Inputs Inputs `json:"inputs"`
	// Cluster is what a node needs to know to follow the leader by itself.
	Cluster Cluster `json:"cluster"`
	// Removal says that this node is to have nothing of the concern any more; nil in
	// every other plan. Its resources name what is to go.
	Removal *Removal `json:"removal,omitempty"`
	// Secrets maps each secret that file contents refer to to the mod revision it
	// had, so that rotation makes a new plan.
	Secrets map[string]int64 `json:"secrets,omitempty"`
	// Freeze, while it is active, keeps the host as it is; nil: none.
	Freeze    *Freeze   `json:"freeze,omitempty"`
	Resources Resources `json:"resources"`
}

// Inputs are the revisions a plan was computed from.
type Inputs struct {
	// Revision is the highest mod revision among the documents the concern reads.
	Revision int64 `json:"revision"`
}

// Cluster names the cluster's members and where they listen.
type Cluster struct {
	Name string `json:"name"`
	// Member is the name of this node's own member; empty on a node that has none.
	Member  string   `json:"member,omitempty"`
	Members []Member `json:"members"`
}

// Member is where one member listens.
type Member struct {
	Name     string `json:"name"`
	Node     string `json:"node"`
	Address  string `json:"address"`
	Port     int    `json:"port"`
	RESTPort int    `json:"rest_port"`
	Offline  bool   `json:"offline,omitempty"`
}

// Own returns this node's member.
func (c Cluster) Own() (Member, bool) { return c.Find(c.Member) }

// Find returns a member by name.
func (c Cluster) Find(name string) (Member, bool) {
	for _, m := range c.Members {
		if m.Name == name && name != "" {
			return m, true
		}
	}
	return Member{}, false
}

// Resource is one thing on a host.
type Resource interface {
	// ID names the resource uniquely within a plan, as in "unit haproxy@pg-test.service".
	ID() string
}

// Unit is a systemd unit, the files that only it reads and, for HAProxy, its
// routes: one transaction, in force as a whole or not at all.
type Unit struct {
	Unit string `json:"unit"`
	// Program names how to validate, reload and prove: "haproxy" or "patroni".
	// A plan carries no command line.
	Program string `json:"program"`
	Files   []File `json:"files"`
	// Adopted: the unit is the distribution's and does other work as well. When what is
	// ours goes, it is told so and runs on.
	Adopted bool `json:"adopted,omitempty"`
	// Routes is HAProxy's: where each backend may send clients, by backend name.
	Routes map[string]Route `json:"routes,omitempty"`
	// Targets is what Routes mean at this moment. Resolve fills it; it is never stored.
	Targets Targets `json:"-"`
	// Absent says that the host is to have no such unit, while the rest of the plan is
	// applied; Files are empty then.
	Absent bool `json:"absent,omitempty"`
	// HandsOff: what people set by hand in the running program is left so. The agent
	// fills it while the unit's concern is frozen; Targets are held all the same.
	HandsOff bool `json:"-"`
}

// ID implements Resource.
func (u Unit) ID() string { return "unit " + u.Unit }

// Absent reports whether a resource of a plan is one that the host is not to have.
func Absent(r Resource) bool {
	switch r := r.(type) {
	case Unit:
		return r.Absent
	case Watched:
		return r.Absent
	}
	return false
}

// File is one file with its final owner and mode. Its content may hold the
// placeholders of package placeholder and nothing else that is replaced.
type File struct {
	Path    string `json:"path"`
	Mode    string `json:"mode"`
	Owner   string `json:"owner,omitempty"` // user:group; root:root when empty
	Content string `json:"content"`
}

// Patroni is Patroni's dynamic configuration, applied by the leader's agent.
type Patroni struct {
	Patroni string `json:"patroni"` // the scope
	// Config is merged into the dynamic configuration; null removes a key.
	Config map[string]any `json:"config"`
}

// ID implements Resource.
func (p Patroni) ID() string { return "patroni " + p.Patroni }

// Resources is an ordered list whose JSON form tells each kind by its first field.
type Resources []Resource

// UnmarshalJSON reads each resource by the field that names its kind.
func (rs *Resources) UnmarshalJSON(b []byte) error {
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*rs = make(Resources, 0, len(raw))
	for i, r := range raw {
		var kind struct {
			Unit    *string `json:"unit"`
			Patroni *string `json:"patroni"`
			Address *string `json:"address"`
			SQL     *string `json:"sql"`
			File    *string `json:"file"`
		}
		if err := json.Unmarshal(r, &kind); err != nil {
			return fmt.Errorf("resource %d: %w", i, err)
		}
		var err error
		switch {
		case kind.Unit != nil:
			*rs, err = appendAs[Unit](*rs, r)
		case kind.Patroni != nil:
			*rs, err = appendAs[Patroni](*rs, r)
		case kind.Address != nil:
			*rs, err = appendAs[Address](*rs, r)
		case kind.SQL != nil:
			*rs, err = appendAs[SQL](*rs, r)
		case kind.File != nil:
			*rs, err = appendAs[Watched](*rs, r)
		default:
			return fmt.Errorf("resource %d: of no known kind: %w", i, ErrSchema)
		}
		if err != nil {
			return fmt.Errorf("resource %d: %w", i, err)
		}
	}
	return nil
}

func appendAs[R Resource](rs Resources, raw json.RawMessage) (Resources, error) {
	var r R
	if err := json.Unmarshal(raw, &r); err != nil {
		return rs, err
	}
	return append(rs, r), nil
}

// Encode is the stored form of a plan. Equal plans give equal bytes.
func Encode(p Plan) []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("encode plan: %v", err)) // plain structs only
	}
	return b
}

// Decode reads a stored plan. A newer schema is ErrSchema.
func Decode(value []byte) (Plan, error) {
	var p Plan
	err := json.Unmarshal(value, &p)
	if err != nil {
		// What a newer program writes need not fit these types.
		var head struct {
			Schema int `json:"schema"`
		}
		_ = json.Unmarshal(value, &head)
		p = Plan{Schema: head.Schema}
	}
	switch {
	case p.Schema > Schema:
		return Plan{}, fmt.Errorf("%w: it has %d, this program knows %d", ErrSchema, p.Schema, Schema)
	case err != nil:
		return Plan{}, fmt.Errorf("parse plan: %w", err)
	}
	return p, nil
}

// Hash identifies a set of resources by content, whichever plan carried it.
func Hash(rs Resources, secrets map[string]int64) string {
	b, err := json.Marshal(struct {
		R Resources        `json:"r"`
		S map[string]int64 `json:"s"`
	}{rs, secrets})
	if err != nil {
		panic(fmt.Sprintf("hash resources: %v", err))
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
