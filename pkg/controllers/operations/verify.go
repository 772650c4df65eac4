package operations

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// verify begins the proof that is due that the newest backup can be restored, and says what is
// not well with the proofs.
func (m *mover) verify(b operations.Backups) []observed.Condition {
	p := verifyPolicyOf(m.t)
	m.makeWay()
	next := operations.VerifyDue(p, b, m.in.Now)
	for _, at := range []time.Time{next.At, operations.VerifyLook(p, b, m.in.Now)} {
		if !at.IsZero() {
			m.again(at.Sub(m.in.Now))
		}
	}
	cs := operations.VerifyConditions(p, b, m.in.Cluster, m.in.Now)
	if !next.Due || m.world.Holds != nil || !m.world.Confirmed || m.goesOn() {
		return cs
	}
	on, err := operations.VerifyOn(p, m.verifiers(), m.t.Leader)
	if err != nil {
		return append(cs, observed.Condition{
			Type: observed.Healthy, Status: observed.False, Reason: observed.VerificationFailed, Next: "pgctrl get " + m.in.Cluster + " backup",
			Message: fmt.Sprintf("that backups can be restored can't be proved: %v", err),
		})
	}
	o := operations.NewVerify(operations.Asked{
		Cluster: m.in.Cluster, UID: m.t.Formed.UID, Store: m.t.Store.Incarnation, By: operations.BySchedule, Why: next.Why, At: m.in.Now,
	}, plan.Verify{Backup: next.Backup.Label, Data: m.t.Formed.DataDirectory, Bin: desired.BinDir(m.t.Formed.Version), Local: p.Local}, on.Name)
	key := m.in.Layout.OperationKey(m.in.Cluster, o.ID)
	if _, taken := m.in.Snapshot.Get(key); taken {
		m.again(time.Millisecond) // which is what names differ by
		return cs
	}
	m.ops = append(m.ops, operations.Stored{Operation: o, Key: key})
	return cs
}

// goesOn reports that something goes on which a proof waits for; a backup may have begun in
// this very look.
func (m *mover) goesOn() bool {
	for _, o := range m.ops {
		if !o.State.Final() {
			return true
		}
	}
	return false
}

// makeWay ends a proof where a restore in place is asked for: one restore at a time is made
// beside the data of a host.
func (m *mover) makeWay() {
	for _, r := range m.ops {
		if r.Kind != operations.KindRestore || r.State.Final() {
			continue
		}
		for i := range m.ops {
			if o := &m.ops[i]; o.Kind == operations.KindVerify && !o.State.Final() && o.Cancel == "" {
				o.Cancel = r.ID
			}
		}
	}
}

// verifiers are the members as places for a proof.
func (m *mover) verifiers() (out []operations.VerifyMember) {
	for _, member := range m.t.Members {
		if m.t.Leaving[member.Name] || slices.ContainsFunc(m.t.Unmanaged, func(u plan.Member) bool { return u.Name == member.Name }) {
			continue // pgBackRest's settings may be gone there
		}
		_, alive := m.t.Alive(member.Node)
		out = append(out, operations.VerifyMember{Name: member.Name, Node: member.Node, Alive: alive})
	}
	return out
}
