package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// newestEvents is how many events are shown where nobody says how many.
const newestEvents = 50

// choice is which events are shown.
type choice struct {
	cluster       string
	since         time.Time
	kinds         []string
	severity      string
	node, member  string
	last          int
	sinceWord     string
	watch, narrow bool
}

func (a *app) eventCommand() *cobra.Command {
	var c choice
	cmd := &cobra.Command{
		Use: "event [<cluster>]", Short: "What happened, in order",
		Long: fmt.Sprintf(`Everything that happened to a cluster, or to all: who changed what, who leads since
when, where each node sends clients, what a host refused, what was put back, how far
backups are. The newest %d, or those since a time; --watch goes on with what comes.

Events are kept for %d days at most, and the newest %d of each cluster. Those that
concern no cluster are under the name %s. What the kinds mean: pgctrl explain events.`, newestEvents, 30, 1000, events.Fleet),
		Example: "  pgctrl event pg-test\n  pgctrl event pg-test --since 1h --kind leader.* --kind primary.*\n" +
			"  pgctrl event --severity warning --watch\n  pgctrl event pg-test --watch -o json | jq .message",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				c.cluster = args[0]
			}
			c.narrow = cmd.Flags().Changed("last")
			if err := c.check(a.deps.Now()); err != nil {
				return err
			}
			if c.watch {
				return a.watchEvents(cmd.Context(), c)
			}
			return a.listEvents(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.sinceWord, "since", "", "since when: 90s, 1h, 2d, or a time such as 2026-01-31T18:30:00Z")
	f.StringSliceVar(&c.kinds, "kind", nil, "only these kinds: a kind, or a family such as leader.*")
	f.StringVar(&c.severity, "severity", "", "only these and worse: info, notice, warning, critical")
	f.StringVar(&c.node, "node", "", "only what happened on this node")
	f.StringVar(&c.member, "member", "", "only what happened to this member")
	f.IntVarP(&c.last, "last", "n", newestEvents, "how many of the newest")
	f.BoolVarP(&c.watch, "watch", "w", false, "go on with what comes, until interrupted")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(eventKinds(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("severity", cobra.FixedCompletions(severityWords(), cobra.ShellCompDirectiveNoFileComp))
	return a.withFormat(cmd)
}

func eventKinds() []string {
	var out []string
	for _, d := range events.Kinds {
		out = append(out, string(d.Kind))
	}
	return out
}

func severityWords() []string {
	var out []string
	for _, s := range events.Severities {
		out = append(out, string(s))
	}
	return out
}

// check refuses what means nothing, and reads the words.
func (c *choice) check(now time.Time) error {
	for _, k := range c.kinds {
		if err := events.CheckPattern(k); err != nil {
			return fail("--kind: %s", err).then("pgctrl explain events")
		}
	}
	if c.severity != "" && !slices.Contains(severityWords(), c.severity) {
		return fail("--severity: expected %s, found %q%s", oneOf(severityWords()), c.severity, didYouMean(c.severity, severityWords()))
	}
	if c.last < 1 {
		return fail("--last: expected a number from 1 on, found %d", c.last)
	}
	if c.sinceWord == "" {
		return nil
	}
	if t, err := time.Parse(time.RFC3339, c.sinceWord); err == nil {
		c.since = t
		return nil
	}
	d, err := desired.ParseDuration(c.sinceWord)
	if err != nil || d <= 0 {
		return fail("--since: expected a time such as 1h, 2d or 2026-01-31T18:30:00Z, found %q", c.sinceWord)
	}
	c.since = now.Add(-time.Duration(d))
	return nil
}

// wants reports whether an event is one that was asked for.
func (c *choice) wants(e events.Event) bool {
	return (len(c.kinds) == 0 || slices.ContainsFunc(c.kinds, func(p string) bool { return events.Matches(p, e.Kind) })) &&
		(c.severity == "" || e.Severity.Rank() >= events.Severity(c.severity).Rank()) &&
		(c.node == "" || c.node == e.Node) && (c.member == "" || c.member == e.Member) &&
		!e.At.Before(c.since)
}

// eventsIn reads the events among keys, in order. A key that is no event is left out.
func eventsIn(l keys.Layout, list []kv.KV) []events.Event {
	var out []events.Event
	for _, e := range list {
		if ev, ok := eventOf(l, e); ok {
			out = append(out, ev)
		}
	}
	events.Sort(out)
	return out
}

func eventOf(l keys.Layout, e kv.KV) (events.Event, bool) {
	ref, err := l.Parse(e.Key)
	if err != nil {
		return events.Event{}, false
	}
	ev, err := observed.Decode[events.Event](e)
	if err != nil || ev.ID != ref.Doc || ev.Cluster != ref.Cluster {
		return events.Event{}, false
	}
	return ev, true
}

func (a *app) eventPrefix(cluster string) string {
	if cluster == "" {
		return a.settings.Layout.Prefix(keys.Events)
	}
	return a.settings.Layout.ClusterEvents(cluster)
}

// knowsOf checks that the cluster is or was there: of one that was removed there are events.
func (a *app) knowsOf(ctx context.Context, cluster string, found int) error {
	if cluster == "" || cluster == events.Fleet || found > 0 {
		return nil
	}
	l, err := a.read(ctx, keys.Desired)
	if err != nil {
		return err
	}
	return l.cluster(cluster)
}

func (a *app) listEvents(ctx context.Context, c choice) error {
	client, err := a.connect(ctx)
	if err != nil {
		return err
	}
	list, _, err := client.List(ctx, a.eventPrefix(c.cluster))
	if err != nil {
		return a.unreachable(err)
	}
	all := eventsIn(a.settings.Layout, list)
	if err := a.knowsOf(ctx, c.cluster, len(all)); err != nil {
		return err
	}
	shown := slices.DeleteFunc(slices.Clone(all), func(e events.Event) bool { return !c.wants(e) })
	hidden := 0
	if (c.since.IsZero() || c.narrow) && len(shown) > c.last {
		hidden = len(shown) - c.last
		shown = shown[hidden:]
	}
	return a.emit(append([]events.Event{}, shown...), func() {
		switch {
		case len(all) == 0:
			a.note("no events yet; a pgctrl server writes them (systemctl status pgctrl-server)")
			return
		case len(shown) == 0:
			a.note("none of %d events is one of these", len(all))
			return
		}
		t := a.eventTable(c.cluster)
		for _, e := range shown {
			t.row(a.eventCells(e, c.cluster)...)
		}
		t.write(a.Out)
		if hidden > 0 {
			a.note("and %d older; more of them: --last %d", hidden, len(shown)+hidden)
		}
	})
}

func (a *app) eventTable(cluster string) *table {
	heads := []string{"TIME", "SEVERITY", "KIND", "NODE", "WHAT"}
	if cluster == "" {
		heads = slices.Insert(heads, 1, "CLUSTER")
	}
	if a.wide() {
		heads = slices.Insert(heads, len(heads)-1, "ID", "CAUSE", "BY")
	}
	return newTable(a.out, heads...)
}

func (a *app) eventCells(e events.Event, cluster string) []string {
	cells := []string{e.At.UTC().Format("2006-01-02 15:04:05.000"), a.severityWord(e.Severity), string(e.Kind), orDash(e.Node), eventWords(e)}
	if cluster == "" {
		cells = slices.Insert(cells, 1, e.Cluster)
	}
	if a.wide() {
		cells = slices.Insert(cells, len(cells)-1, e.ID, orDash(e.Cause), orDash(e.By))
	}
	return cells
}

// eventWords is an event's message, with what a reader must know of it.
func eventWords(e events.Event) string {
	s := strings.Join(strings.Fields(e.Message), " ")
	if e.Reason != "" && !strings.Contains(s, e.Reason) {
		s = e.Reason + ": " + s
	}
	if e.Repeats > 0 {
		s += fmt.Sprintf(" (and %d more like it)", e.Repeats)
	}
	if e.Late {
		s += " (seen afterwards)"
	}
	return s
}

func (a *app) severityWord(s events.Severity) string {
	switch s {
	case events.Critical:
		return a.out.red(string(s))
	case events.Warning:
		return a.out.yellow(string(s))
	case events.Notice:
		return a.out.bold(string(s))
	}
	return string(s)
}
