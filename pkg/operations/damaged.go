package operations

import (
	"fmt"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Damaged is the newest backup of the repository where pages of it failed their checksums;
// false: it is sound, there is none, or nobody knows. pgBackRest only warns of them and counts the
// backup for retention, so sound ones would be expired for it. One that is incremental says it as
// well of files that it leaves in those before it, so a sound one has no such page at all.
func Damaged(b Backups) (observed.Backup, bool) {
	if b.unknown() {
		return observed.Backup{}, false
	}
	newest, _ := b.Repository.Newest()
	return newest, newest.Damaged
}

// damagedWords is what is said of one.
func damagedWords(b observed.Backup) string {
	of := ""
	if b.From != "" {
		of = " of " + b.From
	}
	return fmt.Sprintf("pages%s failed their checksums when backup %s was made, which has them as they are; older backups are kept until a sound one is made", of, b.Label)
}

// sound is the repository without damaged backups.
func sound(r *observed.Repository) *observed.Repository {
	out := *r
	out.Backups = slices.DeleteFunc(slices.Clone(r.Backups), func(b observed.Backup) bool { return b.Damaged })
	return &out
}
