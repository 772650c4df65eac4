package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers/all"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

// createWait is how long create waits: replicas copy the first one's data, which
// takes about 15 s each on a small machine.
const createWait = 2 * time.Minute

// serverPatience is how long a write goes on waiting while no server leads. Another
// takes over from one that died within 6 s (measured: 4.9 to 5.2), and one that lost
// etcd for a while tries again every 5 s.
const serverPatience = 10 * time.Second

// verdict is where a change stands.
type verdict int

const (
	pending verdict = iota
	reached
	failed
)

// passing are reasons that solve themselves when everything works.
var passing = []observed.Reason{
	observed.NotPlanned, observed.NotApplied, observed.RollingOut, observed.WaitingForNode, observed.WaitingForLeader,
	observed.WaitingForSecret, observed.NoLeader, observed.NotConfirmed, observed.NotStreaming, observed.RouteDiffers,
	observed.NotAnswering, observed.StaleView, observed.LeaderFlapping, observed.AddressNotHeld,
	// Patroni's keys and our record come by different streams, one may be a moment ahead.
	observed.RecordLost,
	observed.Removing, observed.Leading,
}

// earlier tells what was wrong with other documents before a change: it holds up nothing
// of the change and is not waited for.
type earlier map[string]bool

func sameWrong(c status.Condition) string { return c.Key + " " + string(c.Reason) }

// wrongBefore finds it, of documents that the change does not write.
func (a *app) wrongBefore(before []status.ClusterStatus, c change) earlier {
	out := earlier{}
	for _, s := range before {
		for _, wrong := range s.Conditions {
			_, written := c.writes[wrong.Key]
			if !written && wrong.Blocking() && strings.HasPrefix(wrong.Key, a.settings.Layout.DesiredPrefix()) {
				out[sameWrong(wrong)] = true
			}
		}
	}
	return out
}

// judge says whether a change is in force wherever it can be. A node without an
// agent is not waited for: nobody knows when it is back.
func judge(s status.ClusterStatus, before earlier) verdict {
	var absent, moving []string
	for _, c := range s.Conditions {
		switch c.Reason {
		case observed.NodeAbsent:
			absent = append(absent, c.Node)
		case observed.NotPlanned, observed.RollingOut:
			moving = append(moving, c.Node)
		}
	}
	v := reached
	for _, c := range s.Conditions {
		switch {
		case !c.Blocking() || c.Reason == observed.NodeAbsent || c.Node != "" && slices.Contains(absent, c.Node):
		case before[sameWrong(c)]:
		// Documents were checked before they were written, so this was so before.
		case c.Type == observed.Valid:
		case slices.Contains(passing, c.Reason):
			if v == reached {
				v = pending
			}
		// What a node refused before may be what this change puts right.
		case c.Node != "" && (slices.Contains(moving, c.Node) || slices.Contains(moving, "")):
			if v == reached {
				v = pending
			}
		default:
			v = failed
		}
	}
	return v
}

// await calls see with every new state since revision rev until it returns true or
// the time is up; it reports which.
func (a *app) await(ctx context.Context, f *follower, rev int64, limit time.Duration, see func(kv.Snapshot) bool) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Documents, plans and reports arrive by ways of their own. What counts is that
	// the documents are there: plans that don't fit them yet are "not planned".
	documents := a.settings.Layout.DesiredPrefix()
	// Patience is by the clock, so look now and then though nothing changed.
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		if f.Reached(documents) >= rev && see(f.Snapshot()) {
			return true, nil
		}
		select {
		case <-f.poke:
		case <-t.C:
		case <-ctx.Done():
			if context.Cause(ctx) == context.DeadlineExceeded {
				return false, nil
			}
			return false, ctx.Err()
		}
	}
}

func (a *app) input(s kv.Snapshot, cluster string) status.Input {
	return status.Input{Snapshot: s, Layout: a.settings.Layout, Now: a.deps.Now(), Cluster: cluster, Store: a.etcd, Results: true, Concerns: all.Concerns(), Shared: all.Shared()}
}

// awaitEdit waits until a change of documents is in force.
func (a *app) awaitEdit(ctx context.Context, f *follower, scope string, before earlier, rev int64, limit time.Duration, since time.Time) error {
	p := a.newProgress()
	var last []status.ClusterStatus
	var end verdict
	ok, err := a.await(ctx, f, rev, limit, func(s kv.Snapshot) bool {
		last, end = a.concerned(s, scope), reached
		server := ""
		for _, c := range last {
			end = worse(end, judge(c, before))
			server = c.Controller
		}
		p.waits(a.waitingFor(last))
		if len(last) > 0 && server == "" {
			return a.deps.Now().Sub(since) > min(serverPatience, limit)
		}
		return end != pending
	})
	p.end()
	if err != nil {
		return err
	}
	return a.concludeEdit(last, ok, end, a.deps.Now().Sub(since))
}

func worse(a, b verdict) verdict {
	switch {
	case a == failed || b == failed:
		return failed
	case a == pending || b == pending:
		return pending
	}
	return reached
}

// concerned are the statuses of the clusters that a scope's documents are about.
func (a *app) concerned(s kv.Snapshot, scope string) []status.ClusterStatus {
	names := []string{scope}
	if fleetScope(scope) {
		names = desired.Clusters(s, a.settings.Layout)
	}
	var out []status.ClusterStatus
	for _, n := range names {
		if c := status.Compute(a.input(s, n)); c.Exists {
			out = append(out, c)
		}
	}
	return out
}

// concludeEdit says how a wait ended.
func (a *app) concludeEdit(last []status.ClusterStatus, inTime bool, end verdict, took time.Duration) error {
	applied, nodes := 0, 0
	for _, c := range last {
		applied, nodes = applied+c.Applied, nodes+c.Nodes
	}
	of := ""
	if len(last) > 1 {
		of = fmt.Sprintf(" of %d clusters", len(last))
	}
	switch {
	case len(last) == 0:
		a.note("nothing to wait for: no cluster has members")
		return nil
	case last[0].Controller == "":
		a.note("%s; it will be applied when one does", observed.Meaning[observed.NoServer])
		a.note("  next: %s", a.err.bold("systemctl start pgctrl-server"))
		return exitCode(NotConverged)
	case inTime && end == reached && applied == nodes:
		a.note("applied on %d of %d nodes%s in %d ms", applied, nodes, of, took.Milliseconds())
		a.showNotes(last)
		return nil
	case inTime && end == reached:
		a.note("applied in %d ms wherever it can be now; what was wrong before still is:", took.Milliseconds())
	case inTime && frozen(last):
		a.note("%s after %d ms: applied on %d of %d nodes%s; it goes on when the freeze ends", a.err.yellow("frozen"), took.Milliseconds(), applied, nodes, of)
	case inTime:
		a.note("%s after %d ms: applied on %d of %d nodes%s", a.err.red("refused"), took.Milliseconds(), applied, nodes, of)
	default:
		a.note("%s after %d s: applied on %d of %d nodes%s; it goes on", a.err.yellow("not done"), int(took.Seconds()), applied, nodes, of)
	}
	for _, c := range last {
		a.showConditions(a.Err, a.err, c.Conditions, true)
	}
	return exitCode(NotConverged)
}

// frozen: nothing but a freeze holds the change up.
func frozen(all []status.ClusterStatus) bool {
	found := false
	for _, s := range all {
		for _, c := range s.Conditions {
			switch {
			case !c.Blocking(), slices.Contains(passing, c.Reason):
			case c.Reason != observed.Frozen:
				return false
			default:
				found = true
			}
		}
	}
	return found
}

// showNotes says what a change left to do for people.
func (a *app) showNotes(last []status.ClusterStatus) {
	for _, s := range last {
		var left []status.Condition
		for _, c := range s.Conditions {
			if c.Reason == observed.PendingRestart || c.Reason == observed.FixedAtForming || c.Aside() && c.Bad() {
				left = append(left, c)
			}
		}
		a.showConditions(a.Err, a.err, left, false)
	}
}

// waitingFor is the most important thing that is not so yet, in a few words.
func (a *app) waitingFor(all []status.ClusterStatus) string {
	for _, s := range all {
		for _, c := range s.Conditions {
			if c.Blocking() {
				return fmt.Sprintf("%s: %s", c.Reason, c.Message)
			}
		}
	}
	return "waiting for the hosts"
}

// awaitCluster waits until a new cluster works, and says what comes about.
func (a *app) awaitCluster(ctx context.Context, f *follower, name string, rev int64, limit time.Duration) error {
	p := a.newProgress()
	var last status.ClusterStatus
	var docs *desired.Cluster
	var end verdict
	said := map[string]bool{}
	ok, err := a.await(ctx, f, rev, limit, func(s kv.Snapshot) bool {
		last, docs = status.Compute(a.input(s, name)), desired.Load(s, a.settings.Layout, name)
		for _, m := range milestones(last) {
			if !said[m.name] && m.text != "" {
				p.came("%s", m.text)
			}
			said[m.name] = true
		}
		p.waits(a.waitingFor([]status.ClusterStatus{last}))
		if last.Controller == "" {
			return a.deps.Now().Sub(a.start) > min(serverPatience, limit)
		}
		if end = judge(last, nil); end == reached && !said["whole"] {
			end = pending // as when the agent of a member was lost meanwhile
		}
		return end != pending
	})
	p.end()
	if err != nil {
		return err
	}
	if ok && end == reached {
		url, err := clusterURL(docs, "primary")
		if err != nil {
			return err
		}
		url = secureURL(docs, url, "")
		gap := "      "
		if a.out.width > 0 && len(url)+len(name)+50 > a.out.width {
			gap = "\n         "
		}
		a.say("ready    %s%spassword: pgctrl secret show %s postgres", url, gap, name)
		a.showConditions(a.Err, a.err, last.Conditions, true)
		return nil
	}
	return a.concludeCreate(last, ok)
}

func (a *app) concludeCreate(last status.ClusterStatus, inTime bool) error {
	switch {
	case last.Controller == "":
		a.note("%s; the cluster will be made when one does", observed.Meaning[observed.NoServer])
		a.note("  next: %s", a.err.bold("systemctl start pgctrl-server"))
		return exitCode(NotConverged)
	case inTime:
		a.note("%s: this does not go on by itself", a.err.red("stopped"))
	default:
		a.note("%s after %s; it goes on", a.err.yellow("not ready"), a.elapsed())
	}
	a.showConditions(a.Err, a.err, last.Conditions, true)
	a.note("  next: %s", a.err.bold("pgctrl status "+last.Cluster+" --watch"))
	return exitCode(NotConverged)
}

// milestone is something that a person who waits wants to hear of, once. The one
// named "whole" has no words: every member is there.
type milestone struct{ name, text string }

func milestones(s status.ClusterStatus) []milestone {
	var out []milestone
	if s.Primary == "" {
		return nil
	}
	out = append(out, milestone{"primary", fmt.Sprintf("%s leads and takes writes (timeline %d)", s.Primary, s.Timeline)})
	var following []string
	word := "streaming"
	for _, m := range s.Members {
		if m.Follows {
			following = append(following, m.Name)
		}
		if m.Follows && m.State != word {
			word = "running as replicas" // all that Patroni before 3.0.3 says, without an agent's word
		}
	}
	if len(following) != len(s.Members)-1 {
		return out
	}
	out = append(out, milestone{name: "whole"})
	if len(following) > 0 {
		out = append(out, milestone{"following", strings.Join(following, ", ") + " " + word})
	}
	right, total := 0, 0
	for _, r := range s.Services {
		right, total = right+r.Right, total+r.Total
	}
	if total > 0 && right == total {
		out = append(out, milestone{"routes", fmt.Sprintf("routes %d of %d", right, total)})
	}
	if s.VIP != nil && s.VIP.Node != "" && s.VIP.Member == s.Primary {
		out = append(out, milestone{"vip", fmt.Sprintf("vip %s on %s", s.VIP.Address, s.VIP.Node)})
	}
	up := 0
	for _, m := range s.Members {
		if m.Pooler == observed.PoolerUp {
			up++
		}
	}
	if up > 0 && up == len(s.Members) {
		out = append(out, milestone{"poolers", fmt.Sprintf("poolers %d of %d", up, len(s.Members))})
	}
	return out
}
