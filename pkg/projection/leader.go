package projection

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// patroni tells of Patroni's leader key and of its members' keys, which are there while their
// Patroni reaches etcd.
func (m *moment) patroni(ref keys.Ref, c Change) {
	if keys.CheckCluster(ref.Cluster) != nil {
		return // a scope that no cluster of ours can have
	}
	if ref.Doc == "leader" {
		m.leader(ref.Cluster, c)
		return
	}
	kind, name := ref.Document()
	if kind != "members" || name == "" {
		return
	}
	switch {
	case c.Old == nil && c.New != nil:
		m.add(events.Event{Kind: events.MemberBack, Cluster: ref.Cluster, Member: name, Message: "Patroni says that " + name + " is there"})
	case c.New == nil:
		m.add(events.Event{Kind: events.MemberLost, Cluster: ref.Cluster, Member: name, Next: "pgctrl status " + ref.Cluster,
			Message: fmt.Sprintf("Patroni's key of %s is gone: its Patroni has stopped, or does not reach etcd", name)})
	}
}

// leader tells who has the leader key. Patroni 3.0 overwrites it: the former one then was not seen
// to go.
func (m *moment) leader(cluster string, c Change) {
	was := ""
	if c.Old != nil {
		was = string(c.Old.Value)
	}
	if c.New == nil {
		m.add(events.Event{Kind: events.LeaderLost, Cluster: cluster, Member: was, From: was, Next: "pgctrl status " + cluster,
			Message: fmt.Sprintf("nobody leads: the leader key of %s is gone", was)})
		return
	}
	is := string(c.New.Value)
	e := events.Event{Kind: events.LeaderChanged, Cluster: cluster, Member: is, From: was, To: is, Epoch: c.New.ModRevision}
	switch was {
	case is:
		e.Severity, e.Message = events.Info, is+" leads on, under a leader key written anew"
	case "":
		e.Message = is + " leads"
	default:
		e.Message = fmt.Sprintf("%s leads in the place of %s", is, was)
	}
	m.add(e)
}

// primary tells when the leader was seen to take writes, and when that ended.
func (m *moment) primary(ref keys.Ref, c Change) {
	if c.New == nil {
		return // a cluster that is removed
	}
	is, err := observed.Decode[observed.Primary](*c.New)
	if err != nil {
		return
	}
	var was observed.Primary
	if c.Old != nil {
		was, _ = observed.Decode[observed.Primary](*c.Old)
	}
	e := events.Event{
		Kind: events.PrimaryConfirmed, Cluster: ref.Cluster, Node: is.Node, Member: is.Member, From: was.Member, To: is.Member,
		Epoch: is.Epoch, Cause: underEpoch(is.Epoch), By: is.By,
	}
	switch {
	case is.Writable && was.Writable && was.Epoch == is.Epoch && was.Member == is.Member:
		return // the same, said once more
	case is.Writable:
		e.Message = fmt.Sprintf("%s takes writes (timeline %d)", is.Member, is.Timeline)
		if is.By != is.Node {
			e.Message += ", as " + is.By + " sees it: the agent of " + is.Node + " was silent"
		}
	case was.Writable:
		e.Kind, e.From, e.To = events.PrimaryWithdrawn, is.Member, ""
		e.Message, e.Next = is.Member+" takes no writes any more", "pgctrl status "+ref.Cluster
	default:
		return
	}
	m.add(e)
}

// pooler tells what a member's agent vouches for. A key that comes or goes says nothing.
func (m *moment) pooler(ref keys.Ref, c Change) {
	if c.New == nil {
		return
	}
	is, err := observed.Decode[observed.Ready](*c.New)
	if err != nil {
		return
	}
	was := observed.Ready{Pooler: observed.PoolerUp}
	if c.Old != nil {
		if r, err := observed.Decode[observed.Ready](*c.Old); err == nil {
			was = r
		}
	}
	if was.Pooler == is.Pooler || is.Pooler == observed.PoolerAlone || was.Pooler == observed.PoolerAlone && is.Pooler == observed.PoolerUp {
		return // alone is what every planned move passes through, for a second
	}
	e := events.Event{Kind: events.PoolerUp, Cluster: ref.Cluster, Node: is.Node, Member: is.Member, Concern: "pgbouncer", From: was.Pooler, To: is.Pooler,
		Message: fmt.Sprintf("the pooler of %s serves", is.Member)}
	if is.Pooler == observed.PoolerDown {
		e.Kind, e.Next = events.PoolerDown, "systemctl status pgbouncer@"+ref.Cluster+" (on "+is.Node+")"
		e.Message = fmt.Sprintf("the pooler of %s does not serve: %s", is.Member, is.Why)
	}
	m.add(e)
}

// moves tells what a node did in a move, at its own time stamps. What it only saw is for traces.
func (m *moment) moves(ref keys.Ref, c Change) {
	if c.New == nil {
		return
	}
	is, err := observed.Decode[observed.Moves](*c.New)
	if err != nil || is.Schema > observed.Schema {
		return
	}
	if len(is.Moves) == 0 {
		return
	}
	last := int64(0)
	for _, mv := range is.Moves {
		if c.Old == nil && is.Moves[len(is.Moves)-1].At.Sub(mv.At) > time.Minute {
			last = mv.Seq // of a record that was deleted and is written anew all but the end was told
		}
	}
	if c.Old != nil {
		was, err := observed.Decode[observed.Moves](*c.Old)
		if err == nil && was.UID == is.UID && was.Store == is.Store && len(was.Moves) > 0 {
			last = was.Moves[len(was.Moves)-1].Seq
		}
	}
	for _, mv := range is.Moves {
		if mv.Seq > last {
			m.move(ref, mv)
		}
	}
}

func (m *moment) move(ref keys.Ref, mv observed.Move) {
	e := events.Event{
		Cluster: ref.Cluster, Node: ref.Node, At: mv.At, Subject: mv.Name, From: mv.From, To: mv.To, Epoch: mv.Epoch, Cause: underEpoch(mv.Epoch),
	}
	to := strings.ReplaceAll(mv.To, ",", ", ")
	if to == "" {
		to = "nobody"
	}
	switch mv.What {
	case observed.MoveRoute:
		if strings.HasSuffix(mv.Name, plan.FallbackSuffix) {
			return // nobody's connections go there but those of a service that has its own event
		}
		e.Kind, e.Concern, e.Message = events.RouteMoved, "haproxy", fmt.Sprintf("%s sends %s to %s", ref.Node, mv.Name, to)
	case observed.MoveVIPAdded:
		e.Kind, e.Concern, e.Message = events.VIPTaken, "vip", fmt.Sprintf("%s is on %s", mv.Name, ref.Node)
	case observed.MoveVIPRemoved:
		e.Kind, e.Concern, e.Message = events.VIPReleased, "vip", fmt.Sprintf("%s is not on %s any more", mv.Name, ref.Node)
	case observed.MoveDNS:
		e.Kind, e.Concern, e.Message = events.DNSMoved, "dns", fmt.Sprintf("on %s %s leads to %s", ref.Node, mv.Name, to)
	default:
		return
	}
	m.add(e)
}
