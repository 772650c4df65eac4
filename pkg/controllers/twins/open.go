package twins

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// user is a node for which a former role stays open, and what helps.
type user struct{ node, why, next string }

// open says for whom the former role of a pair stays open; nobody: it may be closed.
// Every member must have the new one, dead and delayed ones too: a member replays that
// before it replays that the former is closed, and in between its programs must move. Of a
// pair whose password is in nobody's plan it is not known who uses it: they get a moment.
func (p Pair) open(in controllers.Input, t *topology.Topology, now, former Named) []user {
	var out []user
	add := func(node, why, next string) {
		if _, alive := t.Alive(node); !alive {
			next = fmt.Sprintf("systemctl start pgagent (on %s)", node)
		}
		if !slices.ContainsFunc(out, func(u user) bool { return u.node == node }) {
			out = append(out, user{node, why, next})
		}
	}
	planned := false
	for _, concern := range p.users() {
		planned = planned || len(t.AllStored(in, concern)) > 0
	}
	for _, m := range t.Members {
		if has(in, t, m.Node, now) {
			if _, settled := login(in, t, m.Node, now); !settled && !planned {
				add(m.Node, "who read its password just before", "")
			}
			continue
		}
		why, next := fmt.Sprintf("%s does not have %s yet", m.Name, now.Role.Role), ""
		if d := t.Docs.Members[m.Name]; d != nil && d.Delayed() {
			why = fmt.Sprintf("%s replays %s late and does not have %s yet", m.Name, d.Delay, now.Role.Role)
			next = fmt.Sprintf("pgctrl unset %s members/%s delay (or wait)", in.Cluster, m.Name)
		}
		add(m.Node, why, next)
	}
	for _, concern := range p.users() {
		for _, s := range t.AllStored(in, concern) {
			switch _, uses := s.Head.Secrets[former.Secret]; {
			case s.Head.Removal != nil, p == Monitor && nobodyLooks(s):
			case uses:
				add(s.Node, concern+" uses it", "")
			case !inForce(s):
				add(s.Node, concern+" has not said that it uses it no more", "")
			}
		}
	}
	slices.SortFunc(out, func(a, b user) int { return strings.Compare(a.node, b.node) })
	return out
}

// nobodyLooks reports that a plan of monitor runs no exporter on its node: there is no
// member, or no program. Neither will ever say that it has moved to another password.
func nobodyLooks(s *topology.Stored) bool {
	if s.Head.Cluster.Member == "" {
		return true
	}
	if s.Report == nil || s.Report.Plan != s.Revision {
		return false
	}
	c, said := s.Report.Condition(observed.Applied)
	return said && c.Reason == observed.MissingProgram
}

// inForce reports whether everything that a plan asks of a host is so, as far as it can
// be without a restart. That the program is well is not asked: passwords don't make it so.
func inForce(s *topology.Stored) bool {
	if s.Report == nil || s.Report.Plan != s.Revision {
		return false
	}
	c, said := s.Report.Condition(observed.Applied)
	return said && (c.Status == observed.True || c.Reason == observed.PendingRestart)
}

// Closed reports whether nobody needs the former role any more, so that it is to be
// closed, and what there is to say about it: nothing when there is none.
func (p Pair) Closed(in controllers.Input, t *topology.Topology) (closed bool, said []observed.Condition) {
	now, former := p.Exist(in)
	if former == nil {
		return false, nil
	}
	left := p.open(in, t, *now, *former)
	c := observed.Condition{
		Type: observed.Planned, Status: observed.True, Reason: observed.Rotating, Key: in.Layout.Secret(in.Cluster, former.Secret),
		Message: fmt.Sprintf("%s takes over from %s, which is being closed", now.Role.Role, former.Role.Role),
	}
	if len(left) > 0 {
		var names []string
		for _, u := range left {
			names = append(names, fmt.Sprintf("%s (%s)", u.node, u.why))
			if c.Next == "" {
				c.Next = u.next
			}
		}
		c.Message = fmt.Sprintf("%s takes over from %s, which stays open for %s", now.Role.Role, former.Role.Role, strings.Join(names, ", "))
	}
	return len(left) == 0, []observed.Condition{c}
}

// Forget are the deletions of former passwords whose roles are closed on the primary:
// nobody can log in with them, and the next rotation begins with the role that has none.
func Forget(in controllers.Input, t *topology.Topology, pairs ...Pair) []controllers.Output {
	var out []controllers.Output
	for _, p := range pairs {
		_, former := p.Exist(in)
		if former == nil {
			continue
		}
		if closed, _ := p.Closed(in, t); !closed {
			continue
		}
		for _, m := range t.Members {
			if m.Name == t.Leader && slices.Contains(logins(in, t, m.Node), observed.LoginClosed(former.Role.Role)) {
				out = append(out, controllers.Output{Key: in.Layout.Secret(in.Cluster, former.Secret), Mode: controllers.Delete})
			}
		}
	}
	return out
}

// Mint is the request for a pair's first password, which changes nothing once there is
// one: of a pair whose former password was forgotten, the other one must not be made.
func (p Pair) Mint(in controllers.Input) controllers.Output {
	name := p.Name()
	if now, _ := p.Exist(in); now != nil {
		name = now.Secret
	}
	return controllers.Output{Key: in.Layout.Secret(in.Cluster, name), Mode: controllers.Mint}
}
