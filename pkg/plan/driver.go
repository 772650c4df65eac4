package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// ErrStale is returned by a driver that has already acted at a later epoch.
var ErrStale = errors.New("a later epoch has been acted on already")

// Driver makes one kind of resource so. Drivers are thin: what to do was decided
// before; they do it, all or nothing.
type Driver[R Resource] interface {
	// Diff says what is not as r wants it, and changes nothing. Empty: it is so already.
	Diff(ctx context.Context, r R) (Diff, error)
	// Apply makes it so. It is idempotent, and all or nothing (R5): when it
	// returns a *Refusal, everything is back as it was. An epoch lower than one
	// acted on is ErrStale (R7).
	Apply(ctx context.Context, r R, at Epoch) error
	// Remove undoes what Apply made and nothing else.
	Remove(ctx context.Context, r R, at Epoch) error
}

// Diff lists what differs between the host and a resource, one short sentence each.
type Diff []string

// Empty reports that nothing differs.
func (d Diff) Empty() bool { return len(d) == 0 }

// String joins the differences.
func (d Diff) String() string { return strings.Join(d, "; ") }

// Refusal is a host's typed no. The last good state is in force when a driver
// returns one.
type Refusal struct {
	// Reason is observed.Rejected, RolledBack, NotAnswering, PortInUse,
	// MissingProgram, Stopped, PendingRestart or ApplyFailed.
	Reason observed.Reason
	// Message says what was refused and by whom; it ends with the program's own
	// words, without secrets.
	Message string
	// Next is the command that helps, if there is one.
	Next string
	// Document is the cluster's document that is to blame, as in "postgres"; empty: none
	// is known to be.
	Document string
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Reason, r.Message) }

// Condition turns what a driver returned into what a report says.
func Condition(err error) observed.Condition {
	var r *Refusal
	switch {
	case err == nil:
		return observed.Condition{Type: observed.Applied, Status: observed.True}
	case errors.As(err, &r):
		status := observed.False
		if r.Reason == observed.NotAnswering {
			status = observed.Unknown
		}
		return observed.Condition{Type: observed.Applied, Status: status, Reason: r.Reason, Message: r.Message, Next: r.Next}
	default:
		return observed.Condition{Type: observed.Applied, Status: observed.False, Reason: observed.ApplyFailed, Message: err.Error()}
	}
}
