// Package patroni understands what Patroni writes: its keys in etcd and the
// bodies of its REST API, from 3.0 to 4.x. It is the one place that knows that
// 3.x says "master" where 4.x says "primary". Parsing only; it talks to nobody.
package patroni

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Role is what a member is doing, in today's words whatever the version wrote.
type Role string

// The roles. 3.x writes "master" for Primary, and "promoted" and "demoted"
// stand for moves in progress in all versions.
const (
	Primary       Role = "primary"
	Replica       Role = "replica"
	StandbyLeader Role = "standby_leader"
	Promoted      Role = "promoted"
	Demoted       Role = "demoted"
	Uninitialized Role = "uninitialized"
)

// UnmarshalJSON accepts the words of every version.
func (r *Role) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == "master" {
		s = string(Primary)
	}
	*r = Role(s)
	return nil
}

// Member is the value of a member key. Fields that a version does not write are zero.
type Member struct {
	Name           string         `json:"-"`
	Lease          int64          `json:"-"`
	ConnURL        string         `json:"conn_url"`
	APIURL         string         `json:"api_url"`
	State          string         `json:"state"`
	Role           Role           `json:"role"`
	Version        string         `json:"version"`
	Timeline       int64          `json:"timeline"`
	XLogLocation   int64          `json:"xlog_location"`
	ReplayLSN      int64          `json:"replay_lsn"`
	Replication    string         `json:"replication_state"`
	Tags           map[string]any `json:"tags"`
	PendingRestart bool           `json:"pending_restart"`
	Pause          bool           `json:"pause"`
}

// Running reports whether the member's PostgreSQL serves queries: 3.x says
// "running" for every such member, 4.x says "streaming" for a replica that streams.
func (m Member) Running() bool { return m.State == "running" || m.State == "streaming" }

// ParseMember reads the value of a member key; unknown fields are tolerated.
func ParseMember(name string, value []byte) (Member, error) {
	m := Member{Name: name}
	if err := json.Unmarshal(value, &m); err != nil {
		return Member{Name: name}, fmt.Errorf("parse Patroni member %s: %w", name, err)
	}
	return m, nil
}

// Config is what pgctrl reads of Patroni's dynamic configuration.
type Config struct {
	Pause          bool           `json:"pause"`
	StandbyCluster map[string]any `json:"standby_cluster"`
	// All is the whole configuration as Patroni stores it.
	All map[string]any `json:"-"`
}

// ParseConfig reads the value of the config key.
func ParseConfig(value []byte) (Config, error) {
	var c Config
	if err := json.Unmarshal(value, &c); err != nil {
		return Config{}, fmt.Errorf("parse Patroni config: %w", err)
	}
	if err := json.Unmarshal(value, &c.All); err != nil {
		return Config{}, fmt.Errorf("parse Patroni config: %w", err)
	}
	return c, nil
}

// Project reduces a key of Patroni's to what anybody acts on, so that heartbeats
// wake nobody: WAL positions move with every loop of every member, and the status
// key with every write (measured: 0.4 events a second for three members).
// Keys it does not know are returned whole.
func Project(key string, value []byte) []byte {
	switch name := tail(key); {
	case name == "status" || name == "optime/leader":
		return nil
	case strings.HasPrefix(name, "members/"):
		var m map[string]any
		if json.Unmarshal(value, &m) != nil {
			return value
		}
		for _, moving := range []string{"xlog_location", "receive_lsn", "replay_lsn", "receive_lag", "replay_lag", "lag"} {
			delete(m, moving)
		}
		out, err := json.Marshal(m)
		if err != nil {
			return value
		}
		return out
	}
	return value
}

// tail is the part of a key below /<namespace>/<scope>/. Namespaces may have
// several parts, so it looks for the names Patroni uses from the end.
func tail(key string) string {
	for _, known := range []string{"/members/", "/optime/"} {
		if i := strings.LastIndex(key, known); i >= 0 {
			return key[i+1:]
		}
	}
	return key[strings.LastIndex(key, "/")+1:]
}

// Version compares Patroni's version numbers.
type Version [3]int

// ParseVersion reads "3.0.2"; what is missing or not a number counts as 0.
func ParseVersion(s string) Version {
	var v Version
	for i, p := range strings.SplitN(s, ".", 3) {
		end := 0
		for end < len(p) && p[end] >= '0' && p[end] <= '9' {
			end++
		}
		v[i], _ = strconv.Atoi(p[:end])
	}
	return v
}

// Less orders versions.
func (v Version) Less(o Version) bool {
	for i := range v {
		if v[i] != o[i] {
			return v[i] < o[i]
		}
	}
	return false
}

// OldestSafe is the first version that neither overwrites a leader key it lost
// (3.0.3) nor accepts a second Patroni under an existing name (3.0.4).
var OldestSafe = Version{3, 0, 4}

// Names returns member names in order.
func Names(ms map[string]Member) []string {
	out := make([]string, 0, len(ms))
	for n := range ms {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}
