package plan

import "time"

// uncontested is the member that keeps its clients while Patroni is paused, empty when
// there is none: the one confirmed last, as long as the leader key names nobody else.
//
// During a pause people work on the cluster. They stop Patroni, whose REST API then
// fails every check, and whose leader key runs out, while PostgreSQL goes on taking
// writes; its agent, which asks PostgreSQL itself, has not withdrawn it. ROLES section 6:
// that takes nothing away.
func (v View) uncontested() string {
	if v.Confirmed() {
		return v.Primary.Member
	}
	if v.Leader.Member == "" {
		return v.kept()
	}
	return ""
}

// insisted is what a read-write server is held at: during a pause the uncontested
// member is held up against its checks, where otherwise they would have a say; and a
// member that is vouched for against checks that get no answer.
func (v View) insisted(server string, t Target, now time.Time) Target {
	switch {
	case v.Paused && t.Held != Down && t.Start != Down && server == v.uncontested():
		return Target{Held: Insist, Start: Up}
	case t.Held == Up && v.vouched(now):
		return Target{Held: Vouch, Start: Up}
	}
	return t
}
