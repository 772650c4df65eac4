package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The steps of a proof that a backup can be restored.

// heartbeat commits a row and has the archive have it.
func (s *stepper) heartbeat(ctx context.Context, own plan.Member) (observed.StepResult, error) {
	h, err := s.a.o.Host.Backups.Heartbeat(ctx, s.name, own, s.Verify.Heartbeat)
	if err != nil {
		return observed.StepResult{}, err
	}
	return observed.StepResult{Heartbeat: &h, Message: fmt.Sprintf("written at %s and archived %s later; the archive was %s behind", h.At.UTC().Format(time.RFC3339), span(h.Archived), span(h.Window))}, nil
}

// verify restores the backup where it can reach nothing, and looks for the heartbeat in it.
func (s *stepper) verify(ctx context.Context, begun bool) (observed.StepResult, error) {
	runs := s.a.o.Host.Scratch
	if run, err := runs.Run(ctx, s.name); begun && err == nil && run.Step != s.id {
		begun = false // the host was booted since, and what it had done is begun again
	}
	if !begun {
		err := runs.Start(ctx, s.name, ScratchOrder{
			Step: s.id, Dir: s.Verify.Folder(), Bin: s.Verify.Bin, Backup: s.Verify.Backup, Target: plan.RecoveryTarget{Type: plan.TargetLatest},
			Offline: true, Heartbeat: s.Verify.Heartbeat,
		})
		if err != nil {
			return observed.StepResult{}, err
		}
	}
	got, err := s.watchScratch(ctx)
	if err != nil {
		// Whoever is cut short may begin again; a restore that failed is another matter.
		if no, is := errors.AsType[*plan.Refusal](err); is && no.Reason == observed.RestoreFailed {
			return observed.StepResult{}, &plan.Refusal{Reason: observed.NotAnswering, Message: no.Message, Next: no.Next}
		}
		return observed.StepResult{}, err
	}
	said := fmt.Sprintf("backup %s was restored in %s and recovered up to %s", got.Label, span(got.Seconds()), got.LSN)
	if got.Checksums {
		said += "; every page is as its checksum says"
	} else {
		said += "; its pages have no checksums"
	}
	return observed.StepResult{Label: got.Label, Recovered: &got, Message: said}, nil
}

// span is a number of seconds as people read it.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
