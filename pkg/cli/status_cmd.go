package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

func (a *app) statusCommand() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "status [<cluster>]", Short: "How clusters are, and why something is not done",
		Long: `Shows a cluster's members, where its services lead and every condition, worst
first. Without a cluster, one line for each. It is computed from live keys, so it
is right when no server runs, and it says that none does.

Exit code 2 when a cluster is not what its documents say.`,
		Example: "  pgctrl status\n  pgctrl status pg-test\n  pgctrl status pg-test --watch\n  pgctrl status pg-test -o json",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			if watch {
				return a.watchStatus(cmd.Context(), args)
			}
			l, err := a.read(cmd.Context(), statusFamilies...)
			if err != nil {
				return err
			}
			a.etcd = a.health(cmd.Context())
			return a.showStatus(l, args)
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show every change until interrupted")
	return a.withFormat(c)
}

// showStatus prints one cluster or all. The error is the exit code.
func (a *app) showStatus(s kv.Snapshot, args []string) error {
	if len(args) == 0 {
		return a.showFleet(s)
	}
	l := &live{Snapshot: s, layout: a.settings.Layout}
	in := a.input(s, args[0])
	if known := status.Clusters(in); !slices.Contains(known, args[0]) {
		if err := l.cluster(args[0]); err != nil {
			return err
		}
	}
	st := status.Compute(in)
	if err := a.emit(st, func() { a.showCluster(st) }); err != nil {
		return err
	}
	return converged(st.Ready || !st.Exists)
}

func converged(ok bool) error {
	if ok {
		return nil
	}
	return exitCode(NotConverged)
}

func (a *app) showFleet(s kv.Snapshot) error {
	in := a.input(s, "")
	v := struct {
		Clusters   []status.Line      `json:"clusters"`
		Conditions []status.Condition `json:"conditions,omitempty"`
	}{status.Fleet(in), status.FleetConditions(in)}
	if v.Clusters == nil {
		v.Clusters = []status.Line{}
	}
	ready := true
	for _, l := range v.Clusters {
		// A cluster that no document asks for is as its documents say.
		ready = ready && (l.Ready || l.Worst == nil || !l.Worst.Blocking())
	}
	err := a.emit(v, func() {
		if len(v.Clusters) == 0 {
			a.note("no clusters yet; next: pgctrl create <cluster> --on <node>,<node>,<node>")
		}
		t := newTable(a.out, "CLUSTER", "STATUS", "LEADER", ">MEMBERS", "APPLIED", "WORST")
		for _, l := range v.Clusters {
			t.row(l.Cluster, a.word(l), orDash(l.Leader), itoa(l.Members), fmt.Sprintf("%d of %d", l.Applied, l.Nodes), worstOf(l))
		}
		t.write(a.Out)
		if len(v.Clusters) > 0 && len(v.Conditions) > 0 {
			a.say("")
		}
		a.showConditions(a.Out, a.out, v.Conditions, false)
	})
	if err != nil {
		return err
	}
	return converged(ready)
}

func (a *app) word(l status.Line) string {
	switch {
	case l.Ready:
		return a.out.green("Ready")
	case l.Worst != nil && l.Worst.Blocking():
		return a.out.red(string(l.Worst.Reason))
	}
	return a.out.yellow("Unmanaged")
}

func worstOf(l status.Line) string {
	if l.Worst == nil {
		return "-"
	}
	text := l.Worst.Message
	if l.Ready {
		text = string(l.Worst.Reason) + ": " + text
	}
	return text
}

// showCluster prints one cluster: a line, its members, its services, its conditions.
func (a *app) showCluster(s status.ClusterStatus) {
	version := "not formed yet"
	if s.PostgreSQL > 0 {
		version = fmt.Sprintf("PostgreSQL %d", s.PostgreSQL)
	}
	controller := "controller on " + s.Controller + standby(s)
	if s.Controller == "" {
		controller = a.out.yellow("no controller")
	}
	word := a.out.green(s.Short())
	if !s.Ready {
		word = a.out.red(s.Short())
	}
	a.say("%s  %s   %s   desired %d applied on %d of %d nodes   %s   %s",
		a.out.bold(s.Cluster), word, version, s.Revision, s.Applied, s.Nodes, controller, a.etcdWord(s))
	a.showFreeze(s)
	a.showMembers(s)
	a.showServices(s)
	a.showBackupLine(s)
	a.showConditions(a.Out, a.out, s.Conditions, false)
}

// standby says who would take over from the server that plans.
func standby(s status.ClusterStatus) string {
	if len(s.Standbys) == 0 {
		return ", no standby"
	}
	return ", standby " + strings.Join(s.Standbys, ", ")
}

func (a *app) showMembers(s status.ClusterStatus) {
	heads := []string{"MEMBER", "NODE", "HOST", "ROLE", "STATE", ">TL", ">LAG", "POOLER"}
	if a.wide() {
		heads = append(heads, "PATRONI")
	}
	t := newTable(a.out, append(heads, "")...)
	for _, m := range s.Members {
		state := orDash(m.State)
		switch {
		case m.State == "running" || m.State == "streaming":
		case m.State == "":
			state = a.out.red("absent")
		default:
			state = a.out.yellow(state)
		}
		role := orDash(m.Role)
		if m.Role == status.Leader {
			role = a.out.bold(role)
		}
		cells := []string{m.Name, orDash(m.Node), orDash(m.Address), role, state, number(m.Timeline), lag(m), a.pooler(m)}
		if a.wide() {
			cells = append(cells, orDash(m.Patroni))
		}
		t.row(append(cells, strings.Join(remarks(m), ", "))...)
	}
	t.write(a.Out)
}

func (a *app) pooler(m status.Member) string {
	if m.Pooler == observed.PoolerDown {
		return a.out.red(m.Pooler)
	}
	return orDash(m.Pooler)
}

func remarks(m status.Member) []string {
	var out []string
	for _, r := range []struct {
		on   bool
		text string
	}{{m.Role == status.Leader && !m.Confirmed, "not confirmed"}, {m.PendingRestart, "pending restart"}, {m.Offline, "offline"}, {m.Delay != "", "delayed by " + m.Delay}, {m.Unmanaged, "unmanaged"}} {
		if r.on {
			out = append(out, r.text)
		}
	}
	if m.VIP != "" {
		out = append(out, "vip "+m.VIP)
	}
	return out
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// lag is how far a replica is behind, in a unit that fits.
func lag(m status.Member) string {
	if m.Lag == nil || m.Role == status.Leader {
		return ""
	}
	n := *m.Lag
	for _, u := range []struct {
		name string
		size int64
	}{{"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		}
	}
	return fmt.Sprint(n)
}

func (a *app) showServices(s status.ClusterStatus) {
	agree := true
	for _, r := range s.Services {
		agree = agree && r.Agree
	}
	head := "POINTS TO"
	if agree {
		head += " (all nodes agree)"
	}
	t := newTable(a.out, "SERVICE", ">PORT", head, "VIA")
	byPort := slices.Clone(s.Services)
	slices.SortStableFunc(byPort, func(a, b status.Service) int { return a.Port - b.Port })
	for _, r := range byPort {
		targets := strings.Join(r.Targets, ", ")
		switch {
		case !r.Agree:
			targets = a.out.yellow(perNode(r))
		case targets == "":
			targets = a.out.red("nobody")
		}
		t.row(r.Name, itoa(r.Port), targets, r.Via)
	}
	t.write(a.Out)
}

// perNode lists where each node leads, nodes that agree together.
func perNode(r status.Service) string {
	if len(r.Nodes) == 0 {
		return "not known yet"
	}
	by := map[string][]string{}
	for _, n := range sortedKeys(r.Nodes) {
		to := strings.Join(r.Nodes[n], ", ")
		if to == "" {
			to = "nobody"
		}
		by[to] = append(by[to], n)
	}
	var parts []string
	for _, to := range sortedKeys(by) {
		parts = append(parts, to+" on "+strings.Join(by[to], ", "))
	}
	return strings.Join(parts, "; ")
}

// showConditions prints conditions, worst first: what is wrong, then what to know.
func (a *app) showConditions(w io.Writer, s style, cs []status.Condition, onlyBlocking bool) {
	for _, c := range cs {
		if onlyBlocking && !c.Blocking() {
			continue
		}
		reason := s.yellow(string(c.Reason))
		switch {
		case !c.Blocking() && c.Reason == observed.Frozen:
			reason = s.red(string(c.Reason))
		case !c.Blocking():
			reason = s.dim(string(c.Reason))
		case c.Status == observed.False && !slices.Contains(passing, c.Reason):
			reason = s.red(string(c.Reason))
		}
		about := strings.Join(slices.DeleteFunc([]string{c.Node, c.Concern}, func(p string) bool { return p == "" }), " ")
		if about != "" {
			reason += " (" + about + ")"
		}
		fmt.Fprintf(w, "%s: %s\n", reason, c.Message)
		if c.Key != "" {
			fmt.Fprintf(w, "  key:  %s\n", c.Key)
		}
		if c.Next != "" {
			fmt.Fprintf(w, "  next: %s\n", s.bold(c.Next))
		}
	}
}

// watchEvery bounds how often a watched status is drawn.
const watchEvery = 200 * time.Millisecond

// staleAfter is how old what is shown may be before that is said; it is proven
// every second.
const staleAfter = 5 * time.Second

// watchStatus shows the status whenever it is another one. On a terminal it stays
// in place; elsewhere each state is a block of its own.
func (a *app) watchStatus(ctx context.Context, args []string) error {
	f, err := a.follow(ctx)
	if err != nil {
		return err
	}
	defer f.stop()
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	out, last := a.Out, ""
	for {
		var b strings.Builder
		a.Out = &b
		result := a.showStatus(f.Snapshot(), args)
		a.Out = out
		if _, fine := result.(exitCode); result != nil && !fine {
			return result // such as a cluster that does not exist
		}
		if at, _ := f.Fresh(); time.Since(at) > staleAfter {
			fmt.Fprintf(&b, "%s: etcd has not answered for more than %s; this is what was known\n", a.out.red("stale"), staleAfter)
		}
		if text := b.String(); text != last {
			a.redraw(out, text, last == "")
			last = text
		}
		select {
		case <-ctx.Done():
			return result
		case <-t.C: // changes in between are drawn at once
		}
	}
}

func (a *app) redraw(w io.Writer, text string, first bool) {
	if a.out.tty {
		fmt.Fprint(w, "\x1b[H\x1b[2J"+text)
		return
	}
	if !first {
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, text)
}
