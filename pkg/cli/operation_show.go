package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/operations"
)

func (a *app) operationShow() *cobra.Command {
	c := &cobra.Command{
		Use: "show <cluster> <id>", Short: "One operation, phase by phase",
		Long: "Every phase that it passes, who does it, how long that took and what the node said\nlast; why it waits or what came of it, and the next command.",
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.complete(completeClusters, completeOperations),
		Example: "  pgctrl operation show pg-test backup-mfg3k2a1",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), statusFamilies...)
			if err != nil {
				return err
			}
			t, err := l.task(args[0], args[1])
			if err != nil {
				return err
			}
			return a.emit(t, func() { a.showTask(t) })
		},
	}
	return a.withFormat(c)
}

func (a *app) showTask(o task) {
	a.say("%s  %s   %s of %s   asked by %s %s", a.out.bold(o.ID), a.stateWord(o.State), kindOf(o.Operation), o.Cluster, orDash(o.By), a.ago(o.Asked))
	t := newTable(a.out, "PHASE", "STATE", "NODE", "MEMBER", ">TRIES", ">TOOK", "")
	for i, p := range o.Phases {
		said := p.Message
		if now, ok := o.Now(); ok && now == &o.Phases[i] {
			if o.said != "" {
				said = o.said
			}
			if o.Progress != nil {
				said = amount(o.Progress)
			}
		}
		t.row(p.Name, a.phaseWord(p.State), orDash(p.Node), orDash(p.Member), itoa(p.Tries), orDash(a.took(p.Began, p.Ended)), said)
	}
	t.write(a.Out)
	for _, line := range []struct{ name, text string }{
		{"why", o.Why}, {"took", a.took(o.Began, o.Ended)}, {"label", o.Label}, {"cancelled by", o.Cancel},
		{"given up at", deadlineOf(o.Operation)}, {"waits since", lostSince(o.Operation)}, {"tries again at", retryAt(o.Operation)},
		{"reason", string(o.Reason)}, {"says", o.Message},
	} {
		if line.text != "" {
			a.say("%s: %s", line.name, line.text)
		}
	}
	if next := nextOf(o.Operation); next != "" {
		a.say("  next: %s", a.out.bold(next))
	}
}

func (a *app) phaseWord(s operations.PhaseState) string {
	switch s {
	case operations.PhaseDone:
		return a.out.green(string(s))
	case operations.PhaseFailed:
		return a.out.red(string(s))
	case "":
		return "-"
	}
	return a.out.bold(string(s))
}

func deadlineOf(o operations.Operation) string {
	if o.State.Final() {
		return ""
	}
	return o.Deadline.Format(time.RFC3339)
}

// lostSince is since when nothing is heard from the node that does the phase.
func lostSince(o operations.Operation) string {
	if p, ok := o.Now(); ok && !p.Lost.IsZero() && !o.State.Final() {
		return p.Lost.Format(time.RFC3339) + " for the agent of " + p.Node
	}
	return ""
}

func retryAt(o operations.Operation) string {
	if p, ok := o.Now(); ok && !p.Retry.IsZero() && !o.State.Final() {
		return p.Retry.Format(time.RFC3339)
	}
	return ""
}

// nextOf is the command that helps: what the record says, else watching what goes on.
func nextOf(o operations.Operation) string {
	if o.Next != "" || o.State.Final() {
		return o.Next
	}
	return "pgctrl operation watch " + o.Cluster + " " + o.ID
}
