package plan

import (
	"cmp"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Restore is a restore in place: the data of a running cluster become those of a moment of
// its past. What it makes and keeps on the hosts stands beside the data directory and has the
// operation's name in its own.
type Restore struct {
	// Operation is the restore's ID.
	Operation string `json:"operation"`
	// First is the member that gets the backup and leads; the others copy from it.
	First string `json:"first"`
	// Data is the data directory of every member, Bin the folder of PostgreSQL's programs.
	Data string `json:"data"`
	Bin  string `json:"bin"`
	// Backup is the label of the backup to begin with; Target and Value say where recovery
	// ends, in the words of operations.TargetType.
	Backup string `json:"backup,omitempty"`
	Target string `json:"target,omitempty"`
	Value  string `json:"value,omitempty"`
}

// The folders of a restore, beside the data directory and so on its file system.

// Prepared is where the backup is restored and recovered; the data are in a folder of it.
func (r Restore) Prepared() string { return r.Data + ".prepared-" + r.Operation }

// Before is where the former data are kept.
func (r Restore) Before() string { return r.Data + ".before-" + r.Operation }

// Undone is where the restored data are kept when the former ones were put back.
func (r Restore) Undone() string { return r.Data + ".undone-" + r.Operation }

// Kept are all three.
func (r Restore) Kept() []string { return []string{r.Prepared(), r.Before(), r.Undone()} }

// Valid says whether folders can be made out of it: a step comes over the network, and is
// carried out by root.
func (r *Restore) Valid() bool {
	return r != nil && operationName.MatchString(r.Operation) && filepath.IsAbs(r.Data) && filepath.Clean(r.Data) == r.Data &&
		strings.Count(r.Data, "/") > 1
}

var operationName = regexp.MustCompile(`^restore-[0-9a-z]{1,20}$`)

// Restores reports whether an act is part of a restore in place. Nobody may lead meanwhile.
func (a Act) Restores() bool {
	switch a {
	case ActPrepare, ActAside, ActSwap, ActLead, ActFollow, ActBack, ActDiscard:
		return true
	}
	return false
}

// judgeRestore is the part of JudgeStep that is about who leads. Data are taken from under a
// leader in one act only, which is the one that has others to put there.
func judgeRestore(s Step, v View, refuse func(observed.Reason, string, string, ...any) (*observed.StepResult, bool)) *observed.StepResult {
	status := "pgctrl status " + s.Cluster
	leads, epoch := v.Leader.Member, v.Leader.Epoch
	if leads == "" {
		epoch = 0 // the key is not there
	}
	no := func(reason observed.Reason, format string, args ...any) *observed.StepResult {
		r, _ := refuse(reason, status, format, args...)
		return r
	}
	switch {
	case !s.Restore.Valid():
		return no(observed.NotPlanned, "it does not say what is restored, and where")
	case v.StandbyCluster:
		return no(observed.Unsupported, "a standby cluster has the data of another one")
	case epoch != s.Epoch:
		return no(observed.LeaderChanged, "%s leads, and it was another one when this was asked for", cmp.Or(leads, "nobody"))
	}
	switch s.Act {
	case ActAside:
		if leads == s.Member {
			return no(observed.Leading, "%s leads; its data go last, for the restored ones", s.Member)
		}
	case ActSwap, ActLead:
		if leads != "" && leads != s.Member {
			return no(observed.LeaderChanged, "%s leads", leads)
		}
	case ActFollow:
		if leads != s.Restore.First {
			return no(observed.LeaderChanged, "%s leads, and not %s, which has the restored data", cmp.Or(leads, "nobody"), s.Restore.First)
		}
	}
	return nil
}
