package operations

import (
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// policyOf is what the cluster's document says of backups; false: it has none.
func policyOf(t *topology.Topology) (operations.Policy, bool) {
	b := &t.Docs.Backup
	p := operations.Policy{Local: b.Repository == desired.RepositoryLocal, Full: b.Retention.Full, Schedules: map[plan.BackupType]operations.Schedule{}}
	for _, of := range []plan.BackupType{plan.BackupFull, plan.BackupDifferential, plan.BackupIncremental} {
		if s, ok := b.Schedule(string(of)); ok {
			p.Schedules[of] = s
		}
	}
	return p, b.On()
}

// verifyPolicyOf is what it says of proofs that backups can be restored.
func verifyPolicyOf(t *topology.Topology) operations.VerifyPolicy {
	b := &t.Docs.Backup
	p := operations.VerifyPolicy{Stale: b.Verify.Stale.Std(), Node: b.Verify.Node, Local: b.Repository == desired.RepositoryLocal}
	if s, ok := b.VerifySchedule(); ok {
		p.Schedule = s
	}
	return p
}
