package operations

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// World is what Advance may know of a cluster at one moment.
type World struct {
	Now time.Time
	// Store and UID are this etcd and this cluster.
	Store, UID string
	// Leader is the member in Patroni's leader key and Epoch that key's mod revision;
	// Confirmed: its PostgreSQL was seen to take writes, in the leadership ConfirmedIn. When a
	// member takes its own key anew that is an older one, until it was looked at again.
	Leader      string
	Epoch       plan.Epoch
	Confirmed   bool
	ConfirmedIn plan.Epoch
	// Standby: backups are to be copied from a replica where one can be.
	Standby bool
	// Keep: no backup is to be expired now (Keeping).
	Keep bool
	// Holds says why nothing new may begin, such as Patroni's pause; nil: it may.
	Holds *observed.Condition
	// Members are all that the cluster has; nil: that is not known.
	Members []string
	// Node is the node of a member; empty: there is no such member.
	Node func(member string) string
	// Schema is the newest schema that the node's agent understands; false: it has no presence.
	Schema func(node string) (int, bool)
	// Result is what came of a step so far; false: nothing yet.
	Result func(node, step string) (observed.StepResult, bool)
}

// Change is what comes of looking at an operation.
type Change struct {
	// Ask are steps to be asked, Forget those whose keys, with their results, are to go.
	Ask    []Asking
	Forget []Asking
	// After asks to be looked at again when nothing changed until then; 0: never.
	After time.Duration
}

// Asking is one step of one node.
type Asking struct {
	Node, ID string
	// Withdraw: the step goes, and what came of it stays to be seen.
	Withdraw bool
	Step     plan.Step
}

const (
	// LostFor is how long a node's agent is away until its step is given up and may be
	// asked of another node: an agent that is cut off has stopped the act by then, with
	// as much again for clocks and scheduling.
	LostFor = 2 * plan.BackupCutOff
	// AnswerWithin is how long a step may be without any answer from an agent that is there.
	// It accepts or refuses within seconds; one that never saw the step never will.
	AnswerWithin = 2 * time.Minute
	// Tries is how often a phase begins again after failures of its own.
	Tries = 3
	// Moves is how often it begins again because the leader changed or an agent was
	// lost, which says nothing against it.
	Moves = 20
	// RetryFirst is the pause before the second try; each further one is three times as long.
	RetryFirst = 15 * time.Second
	// moveRetry is the pause after a move: the new primary is confirmed within seconds.
	moveRetry = 2 * time.Second
)
