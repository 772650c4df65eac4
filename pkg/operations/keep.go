package operations

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// KeptAfterRestore is how long after a restore in place the backups of before are kept, while the
// data of before are: whoever finds that another moment is wanted needs them.
const KeptAfterRestore = 7 * 24 * time.Hour

// Keeping reports that no backup is to be expired: the newest is damaged, so the older ones may be
// all there is; or a restore reads one, or was so lately that it may be wanted again.
func Keeping(b Backups, now time.Time) bool {
	if _, is := Damaged(b); is {
		return true
	}
	for _, o := range b.Operations {
		switch {
		case o.Kind != KindRestore:
		case !o.State.Final(), len(o.Keeps()) > 0 && now.Sub(o.Ended) < KeptAfterRestore:
			return true
		}
	}
	return false
}

// keep reports that a full backup which nobody scheduled is to expire none. The document says how
// many nights one can go back, and failovers or gaps of one night are not to eat that up; nor are
// they to fill the repository.
func (p Policy) keep(b Backups) bool {
	n := 0
	for _, has := range b.Repository.Backups {
		if has.Type == string(plan.BackupFull) {
			n++
		}
	}
	return n < 2*p.Full
}
