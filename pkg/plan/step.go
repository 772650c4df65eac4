package plan

import (
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Act is what a step does. There is a word for each, and no command line.
type Act string

// The acts.
const (
	// ActRestart restarts a member's PostgreSQL.
	ActRestart Act = "restart"
	// ActReinit removes a member's data and copies them from the leader again.
	ActReinit Act = "reinit"
	// ActStanza makes the cluster's stanza in its repository, where there is none yet, and
	// proves with a segment of WAL that archiving works. On the confirmed primary's node.
	ActStanza Act = "stanza"
	// ActBackup takes one backup and expires what retention no longer keeps.
	ActBackup Act = "backup"
	// ActArchive finishes the current segment of WAL and waits until the archive has it, so
	// that everything up to this moment can be restored.
	ActArchive Act = "archive"
	// ActHeartbeat commits a row with the time and has the archive have it. On the confirmed
	// primary's node.
	ActHeartbeat Act = "heartbeat"
	// ActVerify restores a backup where it can reach nothing, recovers it to the newest WAL,
	// finds the heartbeat in it, reads every page, and removes it again.
	ActVerify Act = "verify"
	// ActPrepare restores a backup beside the data directory and recovers it up to the
	// target there. What runs is not touched.
	ActPrepare Act = "prepare"
	// ActAside stops the member's Patroni with its PostgreSQL, and renames its data directory.
	ActAside Act = "set-aside"
	// ActSwap is ActAside, and puts what ActPrepare made in the place of the data.
	ActSwap Act = "swap"
	// ActLead starts the member's Patroni and waits until its PostgreSQL takes writes; ActFollow
	// does so and waits until it streams.
	ActLead   Act = "lead"
	ActFollow Act = "follow"
	// ActBack undoes ActAside and ActSwap: the former data are in their place again, and run.
	ActBack Act = "put-back"
	// ActDiscard removes the directories that a restore in place kept.
	ActDiscard Act = "discard"
	// ActHook runs a program of the operator's, because a hook names it. The agent does it and
	// no cluster, so any node can.
	ActHook Act = "hook"
)

// acts are those that this program knows, with the schema that brought them.
var acts = map[Act]int{
	ActRestart: SchemaSteps, ActReinit: SchemaSteps, ActStanza: SchemaBackup, ActBackup: SchemaBackup, ActArchive: SchemaBackup,
	ActPrepare: SchemaRestore, ActAside: SchemaRestore, ActSwap: SchemaRestore, ActLead: SchemaRestore, ActFollow: SchemaRestore,
	ActBack: SchemaRestore, ActDiscard: SchemaRestore, ActHeartbeat: SchemaRestore, ActVerify: SchemaRestore,
	ActHook: SchemaHooks,
}

// SchemaOf is the schema of steps with an act.
func SchemaOf(a Act) int { return acts[a] }

// BackupType is how much a backup copies, in pgBackRest's words.
type BackupType string

// The types of backups.
const (
	BackupFull         BackupType = "full"
	BackupDifferential BackupType = "diff" // what changed since the last full one
	BackupIncremental  BackupType = "incr" // what changed since the last one of any type
)

// Step is one act asked of one node. It is fenced: an agent does it only under the
// leadership that the person who asked was looking at.
type Step struct {
	Schema  int    `json:"schema"`
	Act     Act    `json:"act"`
	Cluster string `json:"cluster"`
	Member  string `json:"member"`
	// Store and UID are the etcd and the cluster that were looked at.
	Store string `json:"store"`
	UID   string `json:"uid"`
	Epoch Epoch  `json:"epoch"`
	// Pending: a restart only if a value waits for one.
	Pending bool `json:"pending,omitempty"`
	// Backup is the type of an ActBackup.
	Backup BackupType `json:"backup,omitempty"`
	// Standby: an ActBackup copies from a replica where one can be, which the primary's node
	// finds out when it begins.
	Standby bool `json:"standby,omitempty"`
	// Keep: after an ActBackup no older one is expired. The next without it makes up for that.
	Keep bool `json:"keep,omitempty"`
	// Restore is what the acts of a restore in place are about.
	Restore *Restore `json:"restore,omitempty"`
	// Verify is what an ActVerify and an ActHeartbeat are about.
	Verify *Verify `json:"verify,omitempty"`
	// Hook is what an ActHook runs.
	Hook *Hook `json:"hook,omitempty"`
	// Operation is the key of the operation that asks; empty: a person's command does.
	Operation string `json:"operation,omitempty"`
	// By is who asked.
	By string `json:"by"`
}

// JudgeStep says why a node must not do a step; nil when it may. wait: that can't be
// told yet. own is the node's member, frozen whether its postgres is left alone.
func JudgeStep(s Step, own Member, frozen bool, v View, now time.Time) (no *observed.StepResult, wait bool) {
	refuse := func(reason observed.Reason, next, format string, args ...any) (*observed.StepResult, bool) {
		return &observed.StepResult{
			Schema: observed.Schema, State: observed.StepRefused, Reason: reason, Message: fmt.Sprintf(format, args...), Next: next,
		}, false
	}
	status := "pgctrl status " + s.Cluster
	switch {
	case s.Schema > Schema, acts[s.Act] == 0:
		return refuse(observed.UnsupportedSchema, "upgrade pgagent", "this agent does not know the act %q", s.Act)
	case s.Act == ActHook:
		return judgeHook(s, own, v, now, refuse)
	case !v.fresh(now):
		return nil, true
	case s.Store != v.Store || s.UID != v.UID:
		return refuse(observed.StoreChanged, status, "it was asked of another etcd or of an earlier cluster of this name")
	case own.Name != s.Member || own.Name == "":
		return refuse(observed.NotPlanned, status, "the node has no member %s", s.Member)
	case s.Act.Verifies() && !s.Verify.Valid():
		return refuse(observed.NotPlanned, status, "it does not say what is verified, and where")
	case frozen:
		return refuse(observed.Frozen, "pgctrl unfreeze "+s.Cluster, "%s is frozen", s.Member)
	case v.Paused:
		return refuse(observed.PatroniPaused, status, "Patroni is paused")
	case s.Act.Restores():
		return judgeRestore(s, v, refuse), false
	case v.Leader.Member == "":
		return refuse(observed.NoLeader, status, "nobody leads")
	case v.Leader.Epoch != s.Epoch:
		return refuse(observed.LeaderChanged, status, "%s leads, and did not when this was asked for", v.Leader.Member)
	case s.Act == ActReinit && v.Leader.Member == s.Member:
		return refuse(observed.Leading, status, "%s leads; its data are what the others are copied from", s.Member)
	case s.OnPrimary() && v.Leader.Member != s.Member:
		return refuse(observed.NotLeader, status, "%s leads, and this is done on the primary", v.Leader.Member)
	}
	return nil, false
}

// Beside reports whether steps with an act go on beside others: they may last for hours and
// touch nothing that others do.
func (a Act) Beside() bool {
	return a == ActStanza || a == ActBackup || a == ActArchive || a.Verifies() || a.Restores()
}

// OnPrimary: nobody but the leader can do it.
func (s Step) OnPrimary() bool {
	return s.Act == ActStanza || s.Act == ActArchive || s.Act == ActHeartbeat || s.Act == ActBackup
}
