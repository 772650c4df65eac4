package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/status"
)

// What --for may be: a freeze ends by itself, so that nobody has to remember it.
const (
	defaultFreeze = 30 * time.Minute
	longestFreeze = 30 * 24 * time.Hour
)

func (a *app) freezeCommand() *cobra.Command {
	var w writeFlags
	var lasts time.Duration
	var owner string
	c := &cobra.Command{
		Use: "freeze <cluster> [<concern>]", Short: "Leave a cluster, or one concern of it, alone for a while",
		Long: `Nothing of it is applied or repaired on any host until the time is over or
pgctrl unfreeze. Routes and everything else that follows the leader go on. Changes
are planned meanwhile, wait, and status says so. Freezing a further concern adds
it; all that is frozen then ends together, at the later time.

A file does the same on one node, without etcd or a server: /etc/pgctrl/freeze, or
/etc/pgctrl/freeze.<cluster>; it lasts until it is removed.`,
		Example: `  pgctrl freeze pg-test --for 30m --reason "disk of pg2 is being replaced"
  pgctrl freeze pg-test haproxy --for 2h --reason "draining by hand"`,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.complete(completeClusters, completeConcerns),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lasts <= 0 || lasts > longestFreeze {
				return fail("expected --for between 1s and %s, found %s. Nothing was written.", desired.Duration(longestFreeze), lasts).
					then("pgctrl freeze %s --for 30m", args[0])
			}
			concerns, err := concernOf(args)
			if err != nil {
				return err
			}
			if owner == "" {
				owner = whoami(a.deps.Getenv)
			}
			return a.edit(cmd.Context(), args[0], "freeze", w, func(doc string, old []byte) ([]byte, error) {
				f := desired.Freeze{Concerns: concerns, Until: a.deps.Now().Add(lasts).UTC().Format(time.RFC3339), Owner: owner, Reason: w.reason}
				return freezeText(doc, addFreeze(readFreeze(old), f, a.deps.Now()))
			})
		},
	}
	w.add(c)
	c.Flags().DurationVar(&lasts, "for", defaultFreeze, "how long, at most 720h")
	c.Flags().StringVar(&owner, "owner", "", "who asks for it (default user@host)")
	return c
}

func (a *app) unfreezeCommand() *cobra.Command {
	var w writeFlags
	c := &cobra.Command{
		Use: "unfreeze <cluster> [<concern>]", Short: "End a freeze",
		Long: `Ends a freeze made by pgctrl freeze, of everything or of one concern. What was
asked for meanwhile is applied, and drift repaired, node by node. A freeze by a
file on a node ends when the file is removed there.`,
		Example: "  pgctrl unfreeze pg-test\n  pgctrl unfreeze pg-test haproxy",
		Args:    cobra.RangeArgs(1, 2), ValidArgsFunction: a.complete(completeClusters, completeConcerns),
		RunE: func(cmd *cobra.Command, args []string) error {
			concerns, err := concernOf(args)
			if err != nil {
				return err
			}
			return a.edit(cmd.Context(), args[0], "freeze", w, func(doc string, old []byte) ([]byte, error) {
				f := readFreeze(old)
				if len(concerns) == 0 || old == nil {
					return nil, nil
				}
				if everything(f) {
					f.Concerns = desired.FreezeConcerns()
				}
				f.Concerns = slices.DeleteFunc(slices.Clone(f.Concerns), func(c string) bool { return c == concerns[0] })
				if len(f.Concerns) == 0 {
					return nil, nil
				}
				return freezeText(doc, f)
			})
		},
	}
	w.add(c)
	return c
}

// concernOf is the concern named on the command line; none is everything.
func concernOf(args []string) ([]string, error) {
	if len(args) < 2 || args[1] == desired.AllConcerns {
		return nil, nil
	}
	if known := desired.FreezeConcerns(); !slices.Contains(known, args[1]) {
		return nil, fail("%s", nothing(fmt.Sprintf("no concern %q%s", args[1], didYouMean(args[1], known)))).
			then("pgctrl explain freeze")
	}
	return []string{args[1]}, nil
}

func completeConcerns(*live, []string, string) []string { return desired.FreezeConcerns() }

func everything(f desired.Freeze) bool {
	return len(f.Concerns) == 0 || slices.Contains(f.Concerns, desired.AllConcerns)
}

// addFreeze joins a freeze with one that still holds: what is frozen stays so, and
// until the later time. The same again takes the new time, so it can be shortened.
func addFreeze(old, next desired.Freeze, now time.Time) desired.Freeze {
	if !old.End().After(now) {
		return next
	}
	same := everything(old) && everything(next) || slices.Equal(slices.Sorted(slices.Values(old.Concerns)), slices.Sorted(slices.Values(next.Concerns)))
	if same {
		return next
	}
	if old.End().After(next.End()) {
		next.Until = old.Until
	}
	if everything(old) || everything(next) {
		next.Concerns = nil
		return next
	}
	next.Concerns = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(old.Concerns), next.Concerns...))))
	return next
}

// readFreeze is a freeze document; one that can't be read is replaced.
func readFreeze(text []byte) desired.Freeze {
	f, _ := desired.ReadFreeze(text)
	return f
}

// freezeText writes the whole document, so that nothing of an old one stays.
func freezeText(doc string, f desired.Freeze) ([]byte, error) {
	concerns := f.Concerns
	if everything(f) {
		concerns = []string{desired.AllConcerns}
	}
	set := []string{"concerns=[" + strings.Join(concerns, ", ") + "]", "until=" + f.Until}
	for name, text := range map[string]string{"owner": f.Owner, "reason": f.Reason} {
		if text != "" {
			set = append(set, name+"="+quoteYAML(text))
		}
	}
	slices.Sort(set)
	return desired.SetFields(doc, nil, set)
}

// quoteYAML is people's text as one YAML scalar.
func quoteYAML(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// showFreeze prints what is left alone, for how long still, and who asked.
func (a *app) showFreeze(s status.ClusterStatus) {
	f := s.Freeze
	if f == nil {
		return
	}
	what := "everything"
	if len(f.Concerns) > 0 {
		what = strings.Join(f.Concerns, ", ")
	}
	left := f.Until.Sub(a.deps.Now())
	line := fmt.Sprintf("FROZEN  %s, for another %s", what, roughly(left))
	if f.Owner != "" {
		line += ", by " + f.Owner
	}
	if f.Reason != "" {
		line += ": " + f.Reason
	}
	a.say("%s", a.out.red(line))
}

// roughly is a duration in its two largest units.
func roughly(d time.Duration) string {
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", max(0, d/time.Second))
}
