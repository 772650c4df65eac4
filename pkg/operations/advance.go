package operations

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Advance looks at an operation and the world, and changes the record to what it is now.
// It is a pure function of both: whichever server calls it, and however often, the next
// state is the same. first says that nothing else stands before it: no older operation of
// its kind, and the token is its own where it needs that.
func Advance(o *Operation, w World, first bool) Change {
	a := &advance{Operation: o, World: w}
	a.leadsAlready()
	switch {
	case o.State.Final():
		a.tidy()
	case o.Store != w.Store || o.UID != w.UID:
		a.end(Failed, observed.StoreChanged, "", "it was asked of another etcd or of an earlier cluster of this name")
	case (o.Kind == KindRestore || o.Kind == KindDiscard) && !o.Args.Restore.Valid():
		a.end(Failed, observed.NotPlanned, "", "its record does not say what is restored, and where")
	case o.Kind == KindVerify && !o.Args.Verify.Valid():
		a.end(Failed, observed.NotPlanned, "", "its record does not say what is verified, and where")
	case o.Undo:
		a.run()
	case (o.Cancel != "" || o.State == Cancelling) && !o.restored():
		a.cancel()
	case !w.Now.Before(o.Deadline) && o.restored():
		a.end(Failed, observed.DeadlineExceeded, a.startsAgain(), fmt.Sprintf("the data are restored, and not every member followed by %s", o.Deadline.UTC().Format(time.RFC3339)))
	case !w.Now.Before(o.Deadline):
		o.Reason, o.Message = observed.DeadlineExceeded, fmt.Sprintf("not done by %s", o.Deadline.UTC().Format(time.RFC3339))
		a.cancel()
	case o.State == Waiting:
		a.begin(first)
	default:
		a.run()
	}
	if !o.State.Final() {
		a.again(o.Deadline)
	}
	return a.Change
}

type advance struct {
	*Operation
	World
	Change
}

// again asks to be looked at at a time.
func (a *advance) again(at time.Time) {
	if d := at.Sub(a.World.Now); d > 0 && (a.After == 0 || d < a.After) {
		a.After = d
	}
}

// begin begins, or says what is waited for.
func (a *advance) begin(first bool) {
	c := a.Holds
	switch {
	case c != nil:
	case !first:
		c = &observed.Condition{Reason: observed.OperationUnderWay, Message: "another operation goes on", Next: "pgctrl operation list " + a.Cluster}
	case !a.Confirmed && needsPrimary(a.Phases[0].Name):
		c = &observed.Condition{Reason: observed.NotConfirmed, Message: "no primary is confirmed", Next: "pgctrl status " + a.Cluster}
	}
	if c != nil {
		a.Reason, a.Message, a.Next = c.Reason, c.Message, c.Next
		return
	}
	a.State, a.Began = Running, a.World.Now
	a.Reason, a.Message, a.Next = "", "", ""
	a.run()
}

// run passes as many phases as there are answers for.
func (a *advance) run() {
	for {
		p, more := a.Operation.Now()
		if !more {
			a.concludes()
			return
		}
		asked := ""
		switch {
		case p.Step == "":
			a.ask(p)
		case a.answered(p):
			continue
		default:
			asked = p.Step
		}
		// One that failed, or came behind the others, makes room for the next.
		if now, more := a.Operation.Now(); a.State.Final() || more && now == p && (p.State != PhaseFailed || asked != "") {
			return
		}
	}
}

// needsPrimary: the phase is done by the confirmed primary, whoever that is.
func needsPrimary(phase string) bool {
	return phase == PhaseStanza || phase == PhaseBackup || phase == PhaseArchive || phase == PhaseHeartbeat
}

// ask asks a node for the phase's act, once there is one to ask.
func (a *advance) ask(p *Phase) {
	if a.World.Now.Before(p.Retry) {
		a.again(p.Retry)
		return
	}
	if a.Holds != nil && a.waitsForHolds(p) {
		p.Message = a.Holds.Message
		return
	}
	if p.Name == PhaseFollow && a.Leader == "" {
		p.Message = "waiting for somebody to lead"
		return
	}
	if !a.Confirmed && needsPrimary(p.Name) {
		p.Message = "waiting for a confirmed primary"
		return
	}
	if why := a.movedAway(p); why != "" {
		a.fail(p, observed.LeaderChanged, "pgctrl status "+a.Cluster, why)
		return
	}
	if why := a.leftBehind(p); why != "" {
		a.fail(p, observed.LeaderChanged, "pgctrl backup verify "+a.Cluster, why)
		return
	}
	step := a.step(p)
	node := a.World.Node(step.Member)
	schema, alive := a.World.Schema(node)
	switch {
	case node == "" && p.Name == PhaseDiscard:
		p.State, p.Ended, p.Message = PhaseDone, a.World.Now, "the member is gone, and its host is somebody else's"
		return
	case node == "" && !needsPrimary(p.Name):
		a.fail(p, observed.NodeAbsent, "pgctrl status "+a.Cluster, step.Member+" is no member any more")
		return
	case node == "" || !alive:
		p.Message = fmt.Sprintf("waiting for the agent of node %s, where %s is", node, step.Member)
		switch {
		case p.Name == PhaseBack:
			a.later(p)
		case (a.goesOn() || len(a.Touched()) > 0) && a.gone(p):
			a.fail(p, observed.NodeAbsent, "pgagent status (on "+node+")", fmt.Sprintf("the agent of node %s has been away for %s", node, LostFor))
		}
		return
	case schema < step.Schema:
		a.fail(p, observed.UnsupportedSchema, "upgrade pgagent (on "+node+")", fmt.Sprintf("the agent of node %s does not know the act %q", node, step.Act))
		return
	}
	if q := a.provedElsewhere(p, node); q != nil {
		q.State, q.Ended = "", time.Time{}
		a.ask(q)
		return
	}
	p.Tries++
	p.State, p.Node, p.Member, p.Step = PhaseRunning, node, step.Member, keys.StepID(a.Cluster, a.ID, a.steps())
	p.Message, p.Asked, p.Lost, p.Retry, p.Epoch = "", a.World.Now, time.Time{}, time.Time{}, a.Epoch
	if p.Began.IsZero() {
		p.Began = a.World.Now
	}
	a.Ask = append(a.Ask, Asking{Node: node, ID: p.Step, Step: step})
}

// provedElsewhere is the stanza's phase when that was done on another node than the one that
// is to make the backup: a repository in a folder is another one there, and of a shared one it
// proved that the former primary archives.
func (a *advance) provedElsewhere(p *Phase, node string) *Phase {
	for i := range a.Phases {
		if q := &a.Phases[i]; p.Name == PhaseBackup && q.Name == PhaseStanza && q.State == PhaseDone && q.Node != node {
			return q
		}
	}
	return nil
}

// steps is how many steps have been asked in all: no two have one name.
func (a *advance) steps() (n int) {
	for _, p := range a.Phases {
		n += p.Tries
	}
	return n
}

// step is the act of a phase, as it is asked now.
func (a *advance) step(p *Phase) plan.Step {
	s := plan.Step{
		Cluster: a.Cluster, Member: a.Leader, Store: a.Operation.Store, UID: a.Operation.UID, Epoch: a.Epoch, By: a.By, Operation: a.ID,
	}
	switch p.Name {
	case PhaseStanza:
		s.Act = plan.ActStanza
	case PhaseBackup:
		// After a failure it is the primary: a backup that is there comes before whose load it was.
		s.Act, s.Backup, s.Standby = plan.ActBackup, a.Args.Backup, a.World.Standby && p.Failures == 0
		s.Keep = a.Args.Keep || a.World.Keep
	case PhaseArchive:
		s.Act = plan.ActArchive
	case PhaseHeartbeat:
		s.Act, s.Verify = plan.ActHeartbeat, a.Args.Verify
	case PhaseProve:
		s.Act, s.Member, s.Verify = plan.ActVerify, p.Member, a.Args.Verify
	default:
		s.Act, s.Member, s.Restore = restoreActs[p.Name], p.Member, a.Args.Restore
	}
	s.Schema = plan.SchemaOf(s.Act)
	return s
}

// answered takes what came of a phase's step; true when the next phase may begin.
func (a *advance) answered(p *Phase) bool {
	r, found := a.Result(p.Node, p.Step)
	if !found || !r.Final() {
		a.lost(p, found)
		return false
	}
	a.forget(p)
	if r.State == observed.StepDone {
		p.State, p.Ended, p.Message = PhaseDone, a.World.Now, r.Message
		if r.Label != "" {
			a.Label, a.Message = r.Label, r.Message
		}
		if p.Name == PhaseBack && r.Reason == observed.Leading && p.Member == a.Args.Restore.First {
			a.ledAfterAll()
		}
		if r.Heartbeat != nil {
			a.Operation.Heartbeat = r.Heartbeat
		}
		if r.Recovered != nil {
			a.Operation.Recovered = r.Recovered
		}
		return true
	}
	a.failed(p, r)
	return false
}

// lost notes that the agent that is asked has no presence, and gives its step up in time.
//
// A step that an agent which is there never answered goes too: nobody can accept it any more
// once its key is gone.
func (a *advance) lost(p *Phase, accepted bool) {
	if _, alive := a.World.Schema(p.Node); alive {
		p.Lost = time.Time{}
		until := p.Asked.Add(AnswerWithin)
		switch {
		case accepted:
		case a.World.Now.Before(until):
			a.again(until)
		default:
			a.forget(p)
			a.failed(p, observed.StepResult{
				State: observed.StepFailed, Reason: observed.StaleView, Message: fmt.Sprintf("the agent of node %s has not answered for %s", p.Node, AnswerWithin),
			})
		}
		return
	}
	if !a.gone(p) {
		return
	}
	a.forget(p)
	a.failed(p, observed.StepResult{
		State: observed.StepFailed, Reason: observed.NodeAbsent, Message: fmt.Sprintf("the agent of node %s has been away for %s", p.Node, LostFor),
	})
}

// forget lets go of the phase's step. Its keys go with the record that says so, in one
// transaction.
func (a *advance) forget(p *Phase) {
	a.Forget = append(a.Forget, Asking{Node: p.Node, ID: p.Step})
	p.Step = ""
}

// moved are reasons that say something of the cluster and nothing of the act.
var moved = map[observed.Reason]bool{
	observed.LeaderChanged: true, observed.NotLeader: true, observed.NoLeader: true, observed.StaleView: true, observed.NodeAbsent: true,
	observed.AgentCutOff: true, observed.PatroniPaused: true, observed.Frozen: true,
}

// lasting are reasons that trying again does not change.
var lasting = map[observed.Reason]bool{observed.RecoveryFailed: true, observed.NoRoom: true, observed.Unsupported: true}

// triesOf is how often a phase begins again. Nobody takes writes while restored data do not
// come to lead, and the former ones would.
func triesOf(phase string) int {
	if phase == PhaseLead {
		return 1
	}
	return Tries
}

// failed begins a phase again after a pause, or ends the operation with it.
func (a *advance) failed(p *Phase, r observed.StepResult) {
	limit, pause := triesOf(p.Name), RetryFirst
	if lasting[r.Reason] {
		limit = 1
	}
	if moved[r.Reason] {
		p.Moves++
		limit, pause = Moves, moveRetry
	} else {
		p.Failures++
		for range p.Failures - 1 {
			pause = min(pause*3, time.Hour)
		}
	}
	p.Message = r.Message
	if p.Name == PhaseBack || p.Name == PhaseFollow && held[r.Reason] {
		// Nobody else can have the former data run again, so it is tried until they do.
		p.Retry = a.World.Now.Add(min(pause, BackRetry))
		a.again(p.Retry)
		a.later(p)
		return
	}
	if a.Kind == KindVerify && slices.Contains(proven, r.Reason) {
		limit = 1
	}
	if n := p.Failures; !moved[r.Reason] && n >= limit || moved[r.Reason] && p.Moves >= limit {
		a.fail(p, r.Reason, r.Next, r.Message)
		return
	}
	p.Retry = a.World.Now.Add(pause)
	a.again(p.Retry)
}

// fail ends the operation with a phase that can't be done.
func (a *advance) fail(p *Phase, reason observed.Reason, next, message string) {
	p.State, p.Ended, p.Message = PhaseFailed, a.World.Now, message
	where := ""
	if p.Node != "" {
		where = " on " + p.Node
	}
	message = fmt.Sprintf("%s%s: %s", p.Name, where, strings.TrimSuffix(message, "."))
	if p.Name == PhaseFollow && reason == observed.NodeAbsent {
		next = a.startsAgain() // nobody else will once it is back
	}
	if a.goesOn() {
		a.trouble(reason, next, message)
		return
	}
	a.finish(Failed, reason, next, message)
}

// tidy lets go of what an end left behind.
func (a *advance) tidy() {
	for i := range a.Phases {
		if p := &a.Phases[i]; p.Step != "" {
			a.forget(p)
		}
	}
}

// end ends the operation.
func (a *advance) end(s State, reason observed.Reason, next, message string) {
	a.State, a.Ended = s, a.World.Now
	a.Reason, a.Next, a.Message = reason, next, message
	a.tidy()
}
