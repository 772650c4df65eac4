package desired

import (
	"net/url"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Hook is who is told of events, and asked before something is done: hooks/<name> of a
// cluster, or of the fleet, which sees the events of all clusters.
type Hook struct {
	Meta      `yaml:"-"`
	Enabled   bool       `yaml:"enabled" default:"true" effect:"none" example:"false" says:"false: nothing is delivered and nobody is asked. What happened meanwhile is delivered when it is true again."`
	Events    []string   `yaml:"events" format:"event" note:"none: nothing is delivered" effect:"none" example:"[leader.changed, backup.*]" says:"The kinds of events to deliver: a kind, a family such as leader.*, or all, which is every kind but those of hooks (pgctrl explain events)."`
	Filter    HookFilter `yaml:"filter"`
	Webhook   Webhook    `yaml:"webhook"`
	Command   Command    `yaml:"command"`
	Timeout   Duration   `yaml:"timeout" default:"5s" min:"100ms" max:"5m" effect:"none" example:"10s" says:"How long one attempt may take."`
	RetryFor  Duration   `yaml:"retry_for" default:"1h" min:"0s" max:"168h" effect:"none" example:"24h" says:"How long an event is tried again before it is given up and kept as a dead letter (pgctrl hook dead). Those after it wait for as long, because a hook gets events in their order."`
	Before    []string   `yaml:"before" enum:"switchover,restart,reinit,restore,remove" note:"none: nobody is asked" effect:"none" example:"[switchover]" says:"The operations that the hook is asked about before they begin."`
	Deadline  Duration   `yaml:"deadline" default:"30s" min:"1s" max:"10m" effect:"none" example:"1m" says:"How long being asked may take in all, attempts and waiting included."`
	OnTimeout string     `yaml:"on_timeout" default:"refuse" enum:"refuse,allow" effect:"none" example:"allow" says:"What no answer within the deadline means for the operation."`
}

// HookFilter narrows the events of a hook: one is delivered when it matches in every field.
type HookFilter struct {
	Severity string   `yaml:"severity" default:"info" enum:"info,notice,warning,critical" effect:"none" example:"warning" says:"The least severity."`
	Node     []string `yaml:"node" note:"any" effect:"none" example:"[pg1]" says:"The nodes it may have happened on."`
	Member   []string `yaml:"member" note:"any" effect:"none" example:"[pg-test-1]" says:"The members it may have happened to."`
	Concern  []string `yaml:"concern" note:"any" effect:"none" example:"[haproxy, vip]" says:"The concerns it may be about."`
	Subject  []string `yaml:"subject" note:"any" effect:"none" example:"[primary]" says:"What it may have happened to: a document, an operation, a service, an address."`
}

// Webhook is an HTTP receiver.
type Webhook struct {
	URL    string `yaml:"url" format:"webhook" pattern:"^https?://[^/?#@\\s]+([/?][^#\\s]*)?$" note:"none" effect:"none" example:"https://hooks.example.org/pgctrl" says:"Where events are posted to, from the host of the server that leads. Logins do not belong into it: the receiver checks the signature, whose key is the secret hook-<name>."`
	CAFile string `yaml:"ca_file" format:"path" pattern:"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$" note:"the authorities that the host trusts" effect:"none" example:"/etc/ssl/hooks/ca.crt" says:"The file with the authority that signed the receiver's certificate, on the host of every server."`
}

// Command is a program that an agent runs.
type Command struct {
	Program   string   `yaml:"program" format:"program" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" note:"none" effect:"none" example:"page-oncall" says:"The program that is run for each event, by its file's name alone: which folder it is in, the node says and no document, so that documents can't make a host run just anything."`
	Arguments []string `yaml:"arguments" repeats:"true" note:"none" effect:"none" example:"[--team, db]" says:"Its arguments. They are passed as they are; no shell reads them. The event is on standard input."`
	On        string   `yaml:"on" format:"node" default:"primary" effect:"none" example:"infra1" says:"Which node runs it: a node's name, or primary for the one of the confirmed primary."`
}

// CommandOnPrimary is where a command runs unless a node is named.
const CommandOnPrimary = "primary"

// Fleetwide reports whether the hook sees the events of every cluster.
func (h *Hook) Fleetwide(l keys.Layout) bool { return h.Key == l.FleetHook(h.Name) }

// Span is how long an attempt may take.
func (h *Hook) Span() time.Duration { return time.Duration(h.Timeout) }

var _ = register(Kind{
	Name: "hooks", Named: true, Both: true,
	Meaning:   "Who is told of events, and asked before something is done: a webhook or a command.",
	checkName: keys.CheckName,
	check:     checkHook,
	store:     func(c *Cluster, name string, doc any) { c.Hooks[name] = doc.(*Hook) },
}, Hook{}, nil)

func checkHook(d *resolved) []Problem {
	h := d.doc.(*Hook)
	var out []Problem
	add := func(field, format string, args ...any) { out = append(out, d.problem(field, format, args...)) }
	for _, pattern := range h.Events {
		if err := events.CheckPattern(pattern); err != nil {
			add("events", "%s", err)
		}
	}
	url, program := h.Webhook.URL != "", h.Command.Program != ""
	switch {
	case url && program:
		add("command.program", "expected either webhook.url or command.program, found both; a second hook can have the other")
	case !url && !program:
		add("", "expected webhook.url or command.program, found neither")
	case program && h.Webhook.CAFile != "":
		add("webhook.ca_file", "expected webhook.url with it, found none")
	case url && len(h.Command.Arguments) > 0:
		add("command.arguments", "expected command.program with them, found none")
	case url && h.Webhook.CAFile != "" && strings.HasPrefix(h.Webhook.URL, "http:"):
		add("webhook.ca_file", "expected an https address in webhook.url with it, found an http one")
	}
	if len(h.Events) == 0 && len(h.Before) == 0 {
		add("", "expected something in events or before, found nothing; the hook would never be called")
	}
	return out
}

// maxURL is far above what receivers have and keeps a mistake out of every log line.
const maxURL = 2048

// webhookURL says whether an address can be posted to. A login in it would be in every
// document, and a fragment never leaves the host.
func webhookURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= maxURL && (u.Scheme == "http" || u.Scheme == "https") &&
		u.Hostname() != "" && u.User == nil && u.Fragment == "" && !strings.Contains(s, "#")
}

// FleetHooks reads the hooks of the fleet, sorted by name, and everything wrong with their
// documents. One that can't be used is left out.
func FleetHooks(s kv.Snapshot, l keys.Layout) ([]*Hook, []Problem) {
	prefix := l.Prefix(keys.Hooks)
	var out []*Hook
	var problems []Problem
	for _, e := range s.Range(prefix) {
		h, wrong := ReadHook(l, e)
		problems = append(problems, wrong...)
		if h != nil {
			out = append(out, h)
		}
	}
	return out, problems
}

// ReadHook reads a hook by its key, whether it is a cluster's or of the fleet; nil when the key is
// no hook's, or the document can't be used.
func ReadHook(l keys.Layout, e kv.KV) (*Hook, []Problem) {
	k, ref, p := place(l, e.Key)
	if p != nil || k.Name != "hooks" || ref.Family == keys.Defaults {
		return nil, nil // Misplaced says so
	}
	_, name := ref.Document()
	d := k.resolve(name, e.Key, []layer{{kv: e}})
	if len(d.problems) > 0 {
		return nil, d.problems
	}
	return d.doc.(*Hook), nil
}

// HookList returns the cluster's hooks, sorted by name.
func (c *Cluster) HookList() []*Hook { return byName(c.Hooks) }
