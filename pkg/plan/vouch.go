package plan

import "time"

// Proof is what was found out about a leader while a HAProxy of this node gets no
// answer from its Patroni.
type Proof struct {
	Member string
	// Lease is how long the leader key's lease lasts.
	Lease LeaseReading
	// AnsweredAt is when PostgreSQL itself was last asked on its port, from this node,
	// and answered.
	AnsweredAt time.Time
}

const (
	// ChecksTake is how long HAProxy's checks need at most to see that a server is down,
	// with the defaults of a service: 2 s until the next one begins, three that time out
	// after 2 s each, 1 s between them.
	ChecksTake = 10 * time.Second
	// ProofEvery is how often a contested primary is looked at, answeredFor how long its
	// answer counts: two may be lost.
	ProofEvery  = time.Second
	answeredFor = 2500 * time.Millisecond
)

// vouched reports whether fresh proof outranks checks that get no answer (ROLES
// section 3): a Patroni that is stopped or just being started again must not cost the
// read-write services, while its PostgreSQL takes writes and nobody else can lead.
//
// Nobody can before the lease is over, and HAProxy's checks are left the time to take
// the server down until then, whatever becomes of this agent. That PostgreSQL entered
// recovery its own agent would say, so that one must be there.
func (v View) vouched(now time.Time) bool {
	p, r := v.Proof, v.Proof.Lease
	return v.fresh(now) && v.Confirmed() && v.Attended && p.Member == v.Leader.Member &&
		r.Lease == v.Leader.Lease && r.Lease != 0 && !r.AskedAt.Before(v.Leader.Since) &&
		now.Before(r.AskedAt.Add(r.Left-ChecksTake)) && now.Sub(p.AnsweredAt) <= answeredFor
}
