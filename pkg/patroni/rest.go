package patroni

import (
	"encoding/json"
	"fmt"
)

// Status is the body of GET /patroni, which answers 200 whatever the role is.
// Role comes from pg_is_in_recovery() there; the status code of /primary comes
// from the leader lock alone and says nothing about PostgreSQL.
type Status struct {
	State    string `json:"state"`
	Role     Role   `json:"role"`
	Timeline int64  `json:"timeline"`
	// ServerVersion is PostgreSQL's, as in 150018.
	ServerVersion int    `json:"server_version"`
	System        string `json:"database_system_identifier"`
	Pause         bool   `json:"pause"`
	// Started is when PostgreSQL was started, as text; empty while it does not run.
	Started string `json:"postmaster_start_time"`
	Patroni struct {
		Version string `json:"version"`
		Scope   string `json:"scope"`
		Name    string `json:"name"`
	} `json:"patroni"`
	PendingRestart bool `json:"pending_restart"`
}

// ParseStatus reads the body of GET /patroni.
func ParseStatus(body []byte) (Status, error) {
	var s Status
	if err := json.Unmarshal(body, &s); err != nil {
		return Status{}, fmt.Errorf("parse answer of GET /patroni: %w", err)
	}
	return s, nil
}

// TakesWrites reports whether this answer proves that PostgreSQL left recovery.
func (s Status) TakesWrites() bool { return s.Role == Primary && s.State == "running" }
