package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/trace"
)

func (a *app) traceCommand() *cobra.Command {
	var since, svg string
	var last bool
	cmd := &cobra.Command{
		Use: "trace <cluster>", Short: "The story of a failover: who saw what when, on each node",
		Long: `Tells how the leader moved last, or each time since a time: when the key was lost and
taken, when the new primary took writes and was confirmed, and when each node's routes,
address, names and poolers followed, by the nodes' own time stamps. What happened around
it stands between, marked with a dot. Clocks of nodes that differ are put right by what
all of them saw in etcd, and it is said.`,
		Example: "  pgctrl trace pg-test\n  pgctrl trace pg-test --since 24h\n  pgctrl trace pg-test --svg failover.svg\n  pgctrl trace pg-test -o json",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			if since != "" && cmd.Flags().Changed("last-failover") && last {
				return fail("--last-failover and --since mean different things; give one of them")
			}
			c := choice{cluster: args[0], sinceWord: since, last: 1}
			if err := c.check(a.deps.Now()); err != nil {
				return err
			}
			return a.showTrace(cmd.Context(), c, svg)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&last, "last-failover", true, "the last move, which is what is shown without --since")
	f.StringVar(&since, "since", "", "every move since then: 1h, 2d, or a time such as 2026-01-31T18:30:00Z")
	f.StringVar(&svg, "svg", "", "write the last of them as a picture into this file; - is standard output")
	return a.withFormat(cmd)
}

func (a *app) showTrace(ctx context.Context, c choice, svg string) error {
	in, err := a.traced(ctx, c.cluster)
	if err != nil {
		return err
	}
	stories := trace.Stories(in, c.since)
	if len(stories) == 0 {
		if c.since.IsZero() {
			a.note("nothing is known of a move of %s's leader", c.cluster)
		} else {
			a.note("%s's leader has not moved since %s", c.cluster, c.since.UTC().Format(time.RFC3339))
		}
	}
	if c.since.IsZero() && len(stories) > 1 {
		stories = stories[len(stories)-1:]
	}
	if svg != "" {
		if len(stories) == 0 {
			return fail("there is no move to make a picture of").then("pgctrl event %s", c.cluster)
		}
		return a.writePicture(svg, stories[len(stories)-1])
	}
	return a.emit(append([]trace.Story{}, stories...), func() {
		for i, s := range stories {
			if i > 0 {
				fmt.Fprintln(a.Out)
			}
			a.tellStory(s)
		}
	})
}

func (a *app) writePicture(file string, s trace.Story) error {
	if file == "-" {
		_, err := fmt.Fprint(a.Out, s.SVG())
		return err
	}
	if err := os.WriteFile(file, []byte(s.SVG()), 0o644); err != nil {
		return fail("picture not written: %v", err)
	}
	a.note("wrote %s: %s", file, s.Title())
	return nil
}

// traced reads all that a cluster's stories are made of.
func (a *app) traced(ctx context.Context, cluster string) (trace.Input, error) {
	in := trace.Input{Cluster: cluster}
	client, err := a.connect(ctx)
	if err != nil {
		return in, err
	}
	l := a.settings.Layout
	stored, _, err := client.List(ctx, l.ClusterEvents(cluster))
	if err != nil {
		return in, a.unreachable(err)
	}
	in.Events = eventsIn(l, stored)
	if err := a.knowsOf(ctx, cluster, len(in.Events)); err != nil {
		return in, err
	}
	records, _, err := client.List(ctx, l.Prefix(keys.Moves))
	if err != nil {
		return in, a.unreachable(err)
	}
	for _, e := range records {
		ref, err := l.Parse(e.Key)
		if err != nil || ref.Cluster != cluster {
			continue
		}
		if r, err := observed.Decode[observed.Moves](e); err == nil {
			r.Node = ref.Node
			in.Moves = append(in.Moves, r)
		} else {
			a.note("%s", newer(e.Key).cause)
		}
	}
	if h, there, err := client.Get(ctx, l.History(cluster)); err != nil {
		return in, a.unreachable(err)
	} else if there {
		if in.History, err = patroni.ParseHistory(h.Value); err != nil {
			a.note("%v", err)
		}
	}
	return in, nil
}

func (a *app) tellStory(s trace.Story) {
	fmt.Fprintln(a.Out, a.out.bold(s.Title()))
	fmt.Fprintf(a.Out, "began %s UTC, epoch %d%s\n", s.Began.UTC().Format("2006-01-02 15:04:05.000"), s.Epoch, s.ClockWords())
	if t := s.Timeline; t != nil {
		fmt.Fprintf(a.Out, "timeline %d ended at %X/%X; Patroni says: %s\n", t.Number, t.LSN>>32, t.LSN&0xffffffff, t.Reason)
	}
	fmt.Fprintln(a.Out)
	t := newTable(a.out, ">AFTER", "", "NODE", "WHAT")
	for _, st := range s.Steps {
		mark, text := "", st.Text
		switch {
		case st.Beside:
			mark, text = a.out.dim("·"), a.out.dim(st.Text)
		case s.Milestone(st):
			text = a.out.bold(st.Text)
		}
		t.row(trace.InWords(st.Ms), mark, orDash(st.Node), text)
	}
	t.write(a.Out)
	fmt.Fprintf(a.Out, "\n%s\n", s.Summary())
}
