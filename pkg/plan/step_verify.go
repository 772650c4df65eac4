package plan

import (
	"path/filepath"
	"regexp"
	"strings"
)

// Verify is a proof that a backup can be restored: what an ActVerify, and the heartbeat before
// it, are about.
type Verify struct {
	// Backup is the label of the backup.
	Backup string `json:"backup"`
	// Heartbeat is the id of the row that has to be found: the operation's.
	Heartbeat string `json:"heartbeat"`
	// Data is the data directory of every member, beside which the proof is, and Bin the
	// folder of PostgreSQL's programs.
	Data string `json:"data"`
	Bin  string `json:"bin"`
	// Local: the repository is a folder of the host that led when it was asked for.
	Local bool `json:"local,omitempty"`
}

// Folder is where the backup is restored. One proof of a cluster goes on at a time, so what a
// crash left is found by the next one.
func (v Verify) Folder() string { return v.Data + ".verify" }

// Valid says whether a folder can be made out of it: a step comes over the network, and is
// carried out by root.
func (v *Verify) Valid() bool {
	return v != nil && verifyName.MatchString(v.Heartbeat) && filepath.IsAbs(v.Data) && filepath.Clean(v.Data) == v.Data && strings.Count(v.Data, "/") > 1
}

var verifyName = regexp.MustCompile(`^verify-[0-9a-z]{1,20}$`)

// Verifies reports whether an act is part of a proof that a backup can be restored.
func (a Act) Verifies() bool { return a == ActHeartbeat || a == ActVerify }
