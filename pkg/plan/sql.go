package plan

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// SQL is what is to be inside a cluster's PostgreSQL: roles, databases and what is in
// them. It is made by the agent of the confirmed primary and reaches the others by
// replication. What it does not name is left alone.
type SQL struct {
	SQL string `json:"sql"` // the cluster
	// Lookup is the role that may ask pgctrl.user_lookup, which exists in every database
	// that takes connections; empty: there is no such function.
	Lookup    string     `json:"lookup,omitempty"`
	Roles     []Role     `json:"roles,omitempty"`
	Databases []Database `json:"databases,omitempty"`
}

// ID implements Resource.
func (s SQL) ID() string { return "sql " + s.SQL }

// Role is one role. It is all of what it says, defaults included.
type Role struct {
	Name string `json:"name"`
	// Key is the document's; empty for the roles that pgctrl itself needs.
	Key    string `json:"key,omitempty"`
	Absent bool   `json:"absent,omitempty"`
	// Password names the secret that is its password. No secret, no verifier and no
	// hash of one is ever in a plan.
	Password string `json:"password,omitempty"`
	// NoPassword: it has none, and none that somebody gives it stays.
	NoPassword      bool   `json:"no_password,omitempty"`
	Login           bool   `json:"login,omitempty"`
	Superuser       bool   `json:"superuser,omitempty"`
	CreateDB        bool   `json:"createdb,omitempty"`
	CreateRole      bool   `json:"createrole,omitempty"`
	Inherit         bool   `json:"inherit,omitempty"`
	Replication     bool   `json:"replication,omitempty"`
	BypassRLS       bool   `json:"bypassrls,omitempty"`
	ConnectionLimit int    `json:"connection_limit"`
	ValidUntil      string `json:"valid_until,omitempty"` // RFC 3339; empty: for ever
	Comment         string `json:"comment,omitempty"`
	// MemberOf are roles that it is a member of; Leaves are those that an earlier plan
	// had. Memberships that neither names are left alone.
	MemberOf []string `json:"member_of,omitempty"`
	Leaves   []string `json:"leaves,omitempty"`
	// Parameters are its own settings; Resets are those that an earlier plan had.
	Parameters map[string]string `json:"parameters,omitempty"`
	Resets     []string          `json:"resets,omitempty"`
	// Functions of pg_catalog, in the database postgres, that it may call.
	Functions []string `json:"functions,omitempty"`
}

// ID names the role in messages.
func (r Role) ID() string { return "role " + r.Name }

// Database is one database and what is in it.
type Database struct {
	Name            string            `json:"name"`
	Key             string            `json:"key"`
	Absent          bool              `json:"absent,omitempty"`
	Owner           string            `json:"owner,omitempty"`
	Encoding        string            `json:"encoding,omitempty"`
	Locale          string            `json:"locale,omitempty"`
	Template        string            `json:"template,omitempty"`
	ConnectionLimit int               `json:"connection_limit"`
	Comment         string            `json:"comment,omitempty"`
	Parameters      map[string]string `json:"parameters,omitempty"`
	Resets          []string          `json:"resets,omitempty"`
	Extensions      []Extension       `json:"extensions,omitempty"`
	Schemas         []DatabaseSchema  `json:"schemas,omitempty"`
	Grants          []Grant           `json:"grants,omitempty"`
}

// ID names the database in messages.
func (d Database) ID() string { return "database " + d.Name }

// Extension is one extension of a database. An empty schema or version is whatever
// PostgreSQL takes by itself.
type Extension struct {
	Name    string `json:"name"`
	Schema  string `json:"schema,omitempty"`
	Version string `json:"version,omitempty"`
	Absent  bool   `json:"absent,omitempty"`
}

// DatabaseSchema is one schema of a database; without an owner it is the database owner's.
type DatabaseSchema struct {
	Name  string `json:"name"`
	Owner string `json:"owner,omitempty"`
}

// The objects that a grant can be about.
const (
	OnDatabase     = "DATABASE"
	OnSchema       = "SCHEMA"
	OnTable        = "TABLE"
	OnSequence     = "SEQUENCE"
	OnAllTables    = "ALL TABLES IN SCHEMA"
	OnAllSequences = "ALL SEQUENCES IN SCHEMA"
	OnAllFunctions = "ALL FUNCTIONS IN SCHEMA"
)

// Grant gives one role privileges on an object, or takes them from it.
type Grant struct {
	Privileges []string `json:"privileges"`
	On         string   `json:"on"`
	Schema     string   `json:"schema,omitempty"`
	Object     string   `json:"object,omitempty"` // a table or sequence of the schema
	Role       string   `json:"role"`             // PUBLIC is everybody
	Revoke     bool     `json:"revoke,omitempty"`
	// Taken: revoked because an earlier document granted it and this one does not.
	Taken bool `json:"taken,omitempty"`
}

// SQLRun says how SQL objects are gone through once.
type SQLRun struct {
	// Repair: what differs is put right; else it is only said.
	Repair bool
	// Whole looks into every database, also into those in which nothing was written.
	Whole bool
	// Hold reports an object that is left as it is for now, because it is fought over.
	Hold func(object string) bool
	// Still is asked before every transaction; false ends the run with ErrStale.
	Still func() bool
}

// SQLResult is what a run found and did.
type SQLResult struct {
	// Changed and Differs are what was put right and what was left, by object.
	Changed, Differs map[string]string
	// Problems are one for each object that is not as it is to be, with PostgreSQL's words.
	Problems []observed.Condition
	// Retry is when a failed object is tried again; 0: none failed.
	Retry time.Duration
	// Others are the roles and databases that no document describes, sorted.
	OtherRoles, OtherDatabases []string
}

// SQLOf returns the SQL objects of a plan; false when it has none.
func SQLOf(p Plan) (SQL, bool) {
	if p.Removal != nil {
		return SQL{}, false
	}
	for _, r := range p.Resources {
		if s, ok := r.(SQL); ok {
			return s, true
		}
	}
	return SQL{}, false
}
