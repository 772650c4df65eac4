package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

func (a *app) statusCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "status", Short: "What this agent follows, holds and routes, and why not",
		Long: `Asks the running agent, which answers from memory: it works while etcd is away.
Without an agent it shows the plans that the last one kept, and exits with 1.`,
		Example: "  pgagent status\n  pgagent status -o json | jq '.clusters[].leader'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			st, err := dial(cfg.Socket).status(cmd.Context())
			if err != nil {
				return a.withoutAgent(cfg, format, err)
			}
			return a.emit(format, st, func() { a.printStatus(st) })
		},
	}
	formatFlag(c, &format)
	return c
}

// withoutAgent shows what is on disk.
func (a *app) withoutAgent(cfg config.Config, format string, cause error) error {
	st, err := agent.KeptStatus(cfg.StateDir)
	if err != nil {
		fmt.Fprintln(a.Err, "warning:", err)
	}
	st.Node, st.Endpoints = cfg.Node, cfg.Endpoints
	st.Problem = "no agent answers at " + cfg.Socket
	for i := range st.Clusters {
		a.askLocal(&st.Clusters[i], cfg)
	}
	if err := a.emit(format, st, func() { a.printStatus(st) }); err != nil {
		return err
	}
	fmt.Fprintf(a.Err, "error: %s: %v\nnext:  systemctl status pgagent\n", st.Problem, cause)
	return errSaid
}

// askLocal asks this node's own Patroni what its PostgreSQL does; that needs neither
// an agent nor etcd.
func (a *app) askLocal(c *agent.ClusterStatus, cfg config.Config) {
	for _, con := range c.Concerns {
		p, found, err := agent.LoadKept(cfg.StateDir, c.Name, con.Concern)
		own, is := p.Cluster.Own()
		if err != nil || !found || !is {
			continue
		}
		st, err := a.machine.Patroni(own)
		c.PostgreSQL = agent.LocalStatus{Reachable: err == nil, InRecovery: !st.TakesWrites(), System: st.System, Timeline: st.Timeline}
		if err == nil {
			c.PostgreSQL.By = fmt.Sprintf("is %s, role %s, timeline %d, says its Patroni", st.State, st.Role, st.Timeline)
		}
		return
	}
}

func (a *app) printStatus(st agent.Status) {
	s := a.style()
	head := []string{s.bold(st.Node)}
	if st.Version != "" {
		head = append(head, "pgagent "+st.Version, "up "+ago(st.Uptime))
	}
	switch {
	case st.Problem != "":
		head = append(head, s.red(st.Problem))
	case !st.Speaks:
		head = append(head, s.yellow("connecting to etcd"))
	default:
		head = append(head, "etcd "+strings.Join(st.Endpoints, ",")+" proven "+ago(st.PlansAge)+" ago")
	}
	fmt.Fprintln(a.Out, strings.Join(head, "   "))
	if d := st.Distrust; d != nil {
		fmt.Fprintf(a.Out, "%s: %s\n  next: %s\n", s.red(string(d.Reason)), d.Message, s.bold(d.Next))
		if seen := st.Trusted; seen != nil {
			fmt.Fprintf(a.Out, "  this node knows incarnation %s at revision %d, last proven %s ago\n", seen.Incarnation, seen.Revision, ago(time.Since(seen.At).Seconds()))
		}
	}
	if f := st.Full; f != nil {
		fmt.Fprintf(a.Out, "%s: %s\n  next: %s\n", s.red(string(f.Reason)), f.Message, s.bold(f.Next))
	}
	for _, o := range st.Overrides {
		fmt.Fprintf(a.Out, "%s: %s until %s, %s left%s; to end it: %s\n", s.yellow("by hand"), o,
			o.Until.Local().Format("15:04:05"), ago(time.Until(o.Until).Seconds()), by(o.By), o.Off())
	}
	if len(st.Clusters) == 0 {
		fmt.Fprintln(a.Out, "no plans for this node; next, anywhere: pgctrl create <cluster> --on "+st.Node+",...")
	}
	for _, c := range st.Clusters {
		fmt.Fprintln(a.Out)
		a.printCluster(c, st.Version != "", s)
	}
}

func by(who string) string {
	if who == "" {
		return ""
	}
	return ", by " + who
}

func (a *app) printCluster(c agent.ClusterStatus, running bool, s style) {
	line := []string{s.bold(c.Name)}
	if c.Member != "" {
		line = append(line, "member "+c.Member)
	}
	if running {
		line = append(line, leaderWords(c, s), freshWords(c, s))
		if c.Paused {
			line = append(line, s.yellow("Patroni is paused"))
		}
	}
	fmt.Fprintln(a.Out, strings.Join(line, "   "))
	if c.Member != "" && (running || c.PostgreSQL.Age >= 0) {
		fmt.Fprintln(a.Out, "  PostgreSQL "+localWords(c.PostgreSQL, s))
	}
	if c.VIP != nil {
		fmt.Fprintln(a.Out, "  vip "+vipWords(*c.VIP, s))
	}
	for _, w := range c.Why {
		fmt.Fprintln(a.Out, "  "+s.yellow(string(w.Reason))+": "+w.Message)
	}
	t := newTable("CONCERN", "PLAN", "STATE", "WHY")
	t.indent, t.paint = "  ", paintState
	for _, con := range c.Concerns {
		state, why := concernWords(con)
		t.row(con.Concern, strconv.FormatInt(con.Plan, 10), state, why)
	}
	t.write(a.Out, s)
	t = newTable("BACKEND", "SERVER", "HELD", "STARTS", "EPOCH", "ASSERTED")
	t.indent, t.paint = "  ", paintState
	for _, r := range c.Routes {
		asserted := ago(r.Age) + " ago"
		if r.Error != "" {
			asserted = r.Error
		}
		held := r.Held
		if r.Lapsed && held != "leave" {
			held = "was " + held // a lease that is not renewed: the checks decide
		}
		t.row(r.Backend, r.Server, held, r.Start, strconv.FormatInt(r.Epoch, 10), asserted)
	}
	t.write(a.Out, s)
}

func leaderWords(c agent.ClusterStatus, s style) string {
	switch {
	case c.Leader == "":
		return s.red("no leader")
	case !c.Confirmed:
		return fmt.Sprintf("%s leads at epoch %d, %s", c.Leader, c.Epoch, s.yellow("not confirmed"))
	}
	return fmt.Sprintf("%s leads at epoch %d, %s by %s", c.Leader, c.Epoch, s.green("confirmed"), c.Primary.By)
}

func freshWords(c agent.ClusterStatus, s style) string {
	switch {
	case c.ViewAge < 0:
		return s.yellow("not followed yet: HAProxy's checks decide")
	case !c.Fresh:
		return s.red("view is " + ago(c.ViewAge) + " old: HAProxy's checks decide")
	}
	return "view proven " + ago(c.ViewAge) + " ago"
}

// vipWords says whether the virtual address is here, why, and how old the proofs are.
func vipWords(v agent.VIPStatus, s style) string {
	out := v.Address + " " + s.yellow("not here")
	if v.Here {
		out = v.Address + " " + s.green("here") + ", refreshed " + ago(v.RefreshAge) + " ago"
	}
	if v.Because != "" {
		out += ": " + v.Because
	}
	if v.Here {
		out += fmt.Sprintf(" (the lease had %.0f s left %s ago, Patroni said yes %s ago)", v.LeaseLeft, ago(v.LeaseAge), ago(v.PatroniAge))
	}
	if r := v.Record; r != nil {
		out += fmt.Sprintf("; %s by %s at epoch %d", r.State, r.Node, r.Epoch)
	}
	return out
}

func localWords(l agent.LocalStatus, s style) string {
	switch {
	case l.Age < 0:
		return s.yellow("not asked yet")
	case !l.Reachable:
		return s.red("does not answer") + " (asked " + ago(l.Age) + " ago)"
	case l.By != "":
		return l.By + " (asked " + ago(l.Age) + " ago)"
	case l.Streaming:
		return "is in recovery and streams (asked " + ago(l.Age) + " ago)"
	case l.InRecovery:
		return "is in recovery, " + s.yellow("not streaming") + " (asked " + ago(l.Age) + " ago)"
	}
	return fmt.Sprintf("takes writes on timeline %d (asked %s ago)", l.Timeline, ago(l.Age))
}

// concernWords is a concern's state in one word, and what stands in the way.
func concernWords(con agent.ConcernStatus) (state, why string) {
	state = "applied"
	if con.Loaded == "" {
		state = "waiting"
	}
	if con.Kept {
		state = "kept"
	}
	var whys []string
	for _, c := range con.Conditions {
		if c.Type == observed.Applied && c.Bad() {
			state = "not applied"
		}
		if c.Reason == observed.Frozen && !c.Bad() {
			continue // said of the cluster as a whole
		}
		if c.Bad() || c.Reason != "" && c.Reason != observed.NotLeader {
			text := string(c.Reason) + ": " + c.Message
			if c.Next != "" {
				text += "; next: " + c.Next
			}
			whys = append(whys, text)
		}
	}
	return state, strings.Join(whys, "; ")
}

func paintState(_ int, cell string, s style) string {
	switch cell {
	case "applied", "up":
		return s.green(cell)
	case "not applied":
		return s.red(cell)
	case "down", "kept", "waiting":
		return s.yellow(cell)
	}
	return cell
}

// ago is a number of seconds as people say it.
func ago(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case seconds < 0:
		return "never"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", seconds)
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", seconds)
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}
