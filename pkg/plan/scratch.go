package plan

import "strings"

// RecoveryTarget is where a recovery ends, in PostgreSQL's words.
type RecoveryTarget struct {
	// Type is latest, immediate, time, name, lsn or xid; Value what the last four take.
	Type  string `json:"type"`
	Value string `json:"value,omitempty"`
}

// TargetLatest is the type of the end of the archive.
const TargetLatest = "latest"

// ScratchUnit is the systemd unit that the recovery of a scratch restore runs in, and
// ScratchFetchUnit the one of its copying. They outlive the agent.
func ScratchUnit(cluster string) string { return "pgctrl-scratch@" + cluster + ".service" }

// ScratchFetchUnit is where a scratch restore copies what it needs.
func ScratchFetchUnit(cluster string) string { return "pgctrl-scratch-fetch@" + cluster + ".service" }

// Setting is the value as a starting PostgreSQL takes it: it does not know letters for time
// zones yet, not even Z.
func (t RecoveryTarget) Setting() string {
	switch t.Type {
	case "immediate":
		return "immediate"
	case "time":
		for _, letters := range []string{"Z", "UTC", "GMT"} {
			if digits, ok := strings.CutSuffix(t.Value, letters); ok {
				return strings.TrimSpace(digits) + "+00"
			}
		}
	}
	return t.Value
}
