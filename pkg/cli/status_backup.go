package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/status"
)

// showBackupLine prints a line about backups, and one for each operation that goes on.
func (a *app) showBackupLine(s status.ClusterStatus) {
	if b := s.Backups; b != nil {
		line := a.out.yellow("no backup yet")
		if n := b.Newest; n != nil {
			line = fmt.Sprintf("%s %s old, %s (%s stored)", n.Type, roughly(a.deps.Now().Sub(n.Stopped)), size(n.Size), size(n.Stored))
			if b.Full != nil && b.Full.Label != n.Label {
				line += fmt.Sprintf("; full %s old", roughly(a.deps.Now().Sub(b.Full.Stopped)))
			}
		}
		if b.Repository != "" {
			line += fmt.Sprintf("; %d kept", b.Kept)
		}
		if b.Due != nil && b.Newest != nil { // the first one is due at once
			line += "; next due " + b.Due.Format(time.RFC3339)
		}
		archiving := b.Archiving
		switch archiving {
		case status.ArchivingFailing:
			archiving = a.out.red(archiving)
		case status.ArchivingUnknown:
			archiving = a.out.yellow(archiving)
		}
		a.say("BACKUP   %s; archiving %s", line, archiving)
		if v := b.Verified; v != nil {
			a.say("VERIFIED %s", a.verifiedLine(*v))
		}
	}
	for _, t := range s.Operations {
		line := fmt.Sprintf("%s  %s, %s", t.ID, strings.TrimSpace(t.Type+" "+string(t.Kind)), t.State)
		if t.Phase != "" {
			line += ": " + t.Phase
			if t.Node != "" {
				line += " on " + t.Node
			}
		}
		if t.Progress != nil {
			line += " " + amount(t.Progress)
		}
		a.say("RUNNING  %s, by %s", line, orDash(t.By))
	}
	for _, k := range s.Kept {
		a.say("KEPT     former data of %s, since %s: pgctrl restore %s --discard %s", strings.Join(k.Members, ", "), k.Since.Format(time.RFC3339), s.Cluster, k.Operation)
	}
}
