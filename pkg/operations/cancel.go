package operations

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// cancel withdraws the step that is asked and ends when its node has answered or is lost: what
// it does must not go on behind the next operation's back.
func (a *advance) cancel() {
	p, more := a.Operation.Now()
	state, reason, message := Cancelled, observed.Reason(""), "cancelled by "+a.Cancel
	if a.Cancel == "" {
		state, reason, message = Failed, a.Reason, a.Message
	}
	if !more || p.Step == "" {
		a.finish(state, reason, "", message)
		return
	}
	a.State = Cancelling
	r, found := a.Result(p.Node, p.Step)
	switch {
	case found && r.Final(), !found && a.unbegun(p):
		a.forget(p)
		p.State, p.Ended = PhaseFailed, a.World.Now
		if r.State == observed.StepDone { // before the cancel was heard of; what it left is there
			p.State = PhaseDone
		}
		a.finish(state, reason, r.Next, message)
		return
	case a.Withdrawn != p.Step:
		a.Withdrawn, a.Withdrew = p.Step, a.World.Now
		a.Forget = append(a.Forget, Asking{Node: p.Node, ID: p.Step, Withdraw: true})
	}
	if !found {
		a.again(a.Withdrew.Add(answerArrives))
	}
	if _, alive := a.World.Schema(p.Node); alive {
		// An agent that was started anew meanwhile knows nothing of a step whose key is
		// gone, and never answers. What it had begun ends within plan.BackupCutOff, since
		// nobody looks after it.
		p.Lost = time.Time{}
		if until := a.Withdrew.Add(LostFor); a.World.Now.Before(until) {
			a.again(until)
			return
		}
		a.forget(p)
		p.State, p.Ended = PhaseFailed, a.World.Now
		a.finish(state, reason, "", message+"; its agent did not say what became of it")
		return
	}
	if !a.gone(p) {
		return
	}
	a.forget(p)
	p.State, p.Ended = PhaseFailed, a.World.Now
	a.finish(state, reason, "", message+"; its agent is away")
}

// gone reports that an agent without presence has been away for so long that nothing it had
// begun goes on.
func (a *advance) gone(p *Phase) bool {
	if p.Lost.IsZero() {
		p.Lost = a.World.Now
	}
	until := p.Lost.Add(LostFor)
	a.again(until)
	return !a.World.Now.Before(until)
}

// awayFor reports whether the phase's agent is known to have been away for LostFor.
func (a *advance) awayFor(p *Phase) bool {
	_, alive := a.World.Schema(p.Node)
	return !alive && !p.Lost.IsZero() && !a.World.Now.Before(p.Lost.Add(LostFor))
}

// answerArrives is how long after a step was withdrawn an answer from before it may still be on
// its way: results are watched beside steps, and come milliseconds earlier or later than they do.
const answerArrives = time.Second

// unbegun reports, of a step without an answer, that it was taken back and that nobody had begun
// it: an agent accepts a step only while its key is there.
func (a *advance) unbegun(p *Phase) bool {
	return a.Withdrawn == p.Step && !a.World.Now.Before(a.Withdrew.Add(answerArrives))
}
