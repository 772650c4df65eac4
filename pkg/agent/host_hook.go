package agent

import (
	"context"
	"time"
)

// HookOrder is a run of an operator's program as a step asks for it.
type HookOrder struct {
	Cluster, Hook string
	Program       string
	Arguments     []string
	// Event is what the program reads from its standard input.
	Event         []byte
	EventID, Kind string
	Timeout       time.Duration
}

// HookRun is how an operator's program ended.
type HookRun struct {
	// Exit is its exit code; -1 when a signal ended it, whose name is Signal then.
	Exit   int
	Signal string
	// TimedOut: it was ended because its time was over.
	TimedOut bool
	Took     time.Duration
	// Output is the beginning of what it wrote.
	Output string
}

// Hooks runs the programs of operators that hooks name.
type Hooks interface {
	// Run runs a program and returns when it has ended, at the latest some seconds after its
	// time-out; any exit code is no error. A program that may not be run, and one of which it
	// is not known how it ended, is a *plan.Refusal. Two runs of one hook never go on at once.
	Run(ctx context.Context, o HookOrder) (HookRun, error)
}
