package cli

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// hookFamilies are what is read of hooks: their documents, and what was delivered.
var hookFamilies = append([]keys.Family{keys.Deliveries, keys.Election}, documentFamilies...)

func (a *app) hookCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "hook", Short: "Who is told of events: what was delivered, what was not",
		Long: `A hook is a document (pgctrl explain hooks): a webhook or a command that gets the
events of a cluster, at least once and in order. "hooks" in place of the cluster
means the hooks of the fleet, which get the events of all clusters. What a receiver
does not take for as long as the hook's retry_for is kept as a dead letter.`,
		Example: `  pgctrl set pg-test hooks/page events=[leader.*] webhook.url=https://hooks.example.org/pgctrl
  pgctrl secret set pg-test hook-page < key.txt
  pgctrl hook test pg-test page`,
	}
	c.AddCommand(a.hookList(), a.hookShow(), a.hookTest(), a.hookDead(), a.hookReplay(), a.hookForget())
	return c
}

// told is a hook as it is shown.
type told struct {
	// Cluster is what stands where the cluster stands: "hooks" for one of the fleet.
	Cluster string `json:"cluster"`
	Hook    string `json:"hook"`
	// Status is ok, failing, loop, off, wrong (its document) or left (it has none any more).
	Status string   `json:"status"`
	To     string   `json:"to,omitempty"`
	Events []string `json:"events,omitempty"`
	Before []string `json:"before,omitempty"`
	// Why is what is wrong.
	Why string `json:"why,omitempty"`
	// DeadLetters are kept at present.
	DeadLetters int          `json:"dead_letters"`
	State       *hooks.State `json:"state,omitempty"`
}

// hookScopes are what stands where the cluster stands in commands about hooks.
func hookScopes(l *live, _ []string, _ string) []string { return append(l.clusters(), scopeHooks) }

// recordsOf is where a scope's records are.
func recordsOf(scope string) string { return secretsOf(scope) }

// hooksOf are the hooks of a scope that have a document or left something, by name.
func (l *live) hooksOf(scope string) []told {
	prefix := strings.TrimSuffix(hookKey(l.layout, scope, "x"), "x")
	all := map[string]*told{}
	for _, e := range l.Range(prefix) {
		name := strings.TrimPrefix(e.Key, prefix)
		t := &told{Cluster: scope, Hook: name, Status: "ok"}
		h, problems := desired.ReadHook(l.layout, e)
		switch {
		case h == nil && len(problems) == 0:
			continue // no name that a hook can have
		case h == nil:
			t.Status, t.Why = "wrong", problems[0].Text()
		default:
			t.To, t.Events, t.Before = receiverOf(h), h.Events, h.Before
			if !h.Enabled {
				t.Status = "off"
			}
		}
		all[name] = t
	}
	for _, e := range l.Range(l.layout.Deliveries(recordsOf(scope))) {
		r, err := l.layout.Parse(e.Key)
		if err != nil {
			continue
		}
		name, what, _ := strings.Cut(r.Doc, "/")
		t := all[name]
		if t == nil {
			t = &told{Cluster: scope, Hook: name, Status: "left", Why: "it has no document any more"}
			all[name] = t
		}
		if strings.HasPrefix(what, "dead/") {
			t.DeadLetters++
		}
		if s := (hooks.State{}); what == "state" && json.Unmarshal(e.Value, &s) == nil {
			t.State = &s
			if t.Status == "ok" && s.Reason != "" {
				t.Status, t.Why = strings.ToLower(s.Reason), s.Error
			}
			if t.Status == "loop" {
				t.Why = "hooks cause events for one another; those are not delivered"
			}
		}
	}
	var out []told
	for _, name := range sortedKeys(all) {
		out = append(out, *all[name])
	}
	return out
}

// receiverOf is where a hook's events go: the host, since the rest of the address may be a secret.
func receiverOf(h *desired.Hook) string {
	if h.Webhook.URL == "" {
		return h.Command.Program + " on " + h.Command.On
	}
	u, err := url.Parse(h.Webhook.URL)
	if err != nil {
		return "-"
	}
	return u.Scheme + "://" + u.Host
}

// hookScope checks what stands where the cluster stands.
func (l *live) hookScope(scope string) error {
	if scope == scopeHooks || slices.Contains(l.names(keys.Deliveries, func(r keys.Ref) string { return r.Cluster }), scope) {
		return nil
	}
	return l.cluster(scope)
}

// hook finds a hook, with a near miss.
func (l *live) hook(scope, name string) (told, error) {
	if err := l.hookScope(scope); err != nil {
		return told{}, err
	}
	var names []string
	for _, t := range l.hooksOf(scope) {
		if t.Hook == name {
			return t, nil
		}
		names = append(names, t.Hook)
	}
	if scope == scopeHooks {
		return told{}, fail("the fleet has no hook %s%s", name, didYouMean(name, names)).then("pgctrl hook list %s", scope)
	}
	return told{}, fail("cluster %s has no hook %s%s", scope, name, didYouMean(name, names)).then("pgctrl hook list %s", scope)
}

func completeHooks(l *live, args []string, _ string) []string {
	var out []string
	for _, t := range l.hooksOf(args[0]) {
		out = append(out, t.Hook)
	}
	return out
}

func (a *app) hookList() *cobra.Command {
	c := &cobra.Command{
		Use: "list [<cluster>]", Short: "Every hook, and how it is", Args: cobra.MaximumNArgs(1),
		Long:    "The hooks of a cluster, of the fleet (hooks), or all of them.",
		Example: "  pgctrl hook list\n  pgctrl hook list pg-test -o wide\n  pgctrl hook list hooks -o json", ValidArgsFunction: a.complete(hookScopes),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), hookFamilies...)
			if err != nil {
				return err
			}
			scopes := args
			if len(args) == 0 {
				for _, r := range l.names(keys.Deliveries, func(r keys.Ref) string { return r.Cluster }) {
					if r != keys.Fleet {
						scopes = append(scopes, r) // also of clusters that are gone
					}
				}
				scopes = append(append(scopes, l.clusters()...), scopeHooks)
				slices.Sort(scopes)
				scopes = slices.Compact(scopes)
			} else if err := l.hookScope(args[0]); err != nil {
				return err
			}
			rows := []told{}
			for _, s := range scopes {
				rows = append(rows, l.hooksOf(s)...)
			}
			return a.emit(rows, func() { a.showHooks(rows) })
		},
	}
	return a.withFormat(c)
}

func (a *app) showHooks(rows []told) {
	if len(rows) == 0 {
		a.note("no hooks yet; one is a document: pgctrl explain hooks")
	}
	heads := []string{"CLUSTER", "HOOK", "STATUS", ">DELIVERED", ">DEAD", ">LAST", "TO"}
	if a.wide() {
		heads = append(heads, "EVENTS", "BEFORE")
	}
	t := newTable(a.out, append(heads, "WHY")...)
	for _, r := range rows {
		s := hooks.State{}
		if r.State != nil {
			s = *r.State
		}
		last := "-"
		if s.DeliveredAt != nil {
			last = a.ago(*s.DeliveredAt)
		}
		cells := []string{r.Cluster, r.Hook, a.hookWord(r.Status), itoa(int(s.Delivered)), itoa(r.DeadLetters), last, orDash(r.To)}
		if a.wide() {
			cells = append(cells, orDash(strings.Join(r.Events, ",")), orDash(strings.Join(r.Before, ",")))
		}
		why := r.Why
		if m := s.Missed; m != nil && why == "" {
			why = "events went before it had them, " + a.ago(m.At)
		}
		t.row(append(cells, orDash(why))...)
	}
	t.write(a.Out)
}

func (a *app) hookWord(s string) string {
	switch s {
	case "ok":
		return a.out.green(s)
	case "failing", "wrong", "loop":
		return a.out.red(s)
	}
	return a.out.yellow(s)
}

func (a *app) hookShow() *cobra.Command {
	c := &cobra.Command{
		Use: "show <cluster> <hook>", Short: "One hook: how far it is, what stands in its way", Args: cobra.ExactArgs(2),
		Example: "  pgctrl hook show pg-test page\n  pgctrl hook show hooks audit", ValidArgsFunction: a.complete(hookScopes, completeHooks),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), hookFamilies...)
			if err != nil {
				return err
			}
			t, err := l.hook(args[0], args[1])
			if err != nil {
				return err
			}
			return a.emit(t, func() { a.showHook(t) })
		},
	}
	return a.withFormat(c)
}

func (a *app) showHook(t told) {
	a.say("%s  %s   %s", a.out.bold(t.Cluster+" "+t.Hook), a.hookWord(t.Status), t.To)
	s := hooks.State{}
	if t.State != nil {
		s = *t.State
	}
	last, since, retry, tested := "", "", "", ""
	if s.DeliveredAt != nil {
		last = ", the last one " + a.ago(*s.DeliveredAt)
	}
	if s.FailingSince != nil {
		since = s.FailingSince.Format("2006-01-02T15:04:05Z07:00")
	}
	if s.NextTry != nil {
		retry = "event " + strings.Replace(s.Event, ".", "/", 1) + ", after " + itoa(s.Attempt) + " or more attempts"
	}
	if x := s.LastTest; x != nil {
		tested = a.ago(x.At) + ": " + cmp.Or(x.Error, "taken")
	}
	for _, line := range []struct{ name, text string }{
		{"events", strings.Join(t.Events, ", ")}, {"asked before", strings.Join(t.Before, ", ")},
		{"delivered", itoa(int(s.Delivered)) + last}, {"dead letters", itoa(t.DeadLetters)},
		{"failing since", since}, {"tries again", retry}, {"tested", tested}, {"says", t.Why},
	} {
		if line.text != "" {
			a.say("%s: %s", line.name, line.text)
		}
	}
	if m := s.Missed; m != nil {
		a.say("%s: events that had to go before the hook had them, %s (after revision %d, up to %d)", a.out.red("missed"), a.ago(m.At), m.After.Revision, m.Through)
	}
	if s.Dropped > 0 {
		a.say("dead letters that made room for others: %d", s.Dropped)
	}
	next := ""
	switch {
	case t.Status == "wrong":
		next = "pgctrl explain hooks"
	case t.Status == "left":
		next = "pgctrl hook forget " + t.Cluster + " " + t.Hook
	case t.DeadLetters > 0:
		next = "pgctrl hook dead " + t.Cluster + " " + t.Hook
	case t.Status == "failing":
		next = "pgctrl hook test " + t.Cluster + " " + t.Hook
	}
	if next != "" {
		a.say("  next: %s", a.out.bold(next))
	}
}

// testEvent is what a test sends.
func (a *app) testEvent(scope, hook, id string) events.Event {
	now := a.deps.Now().UTC()
	return events.Event{
		Schema: events.Schema, ID: id, Cluster: recordsOf(scope), Kind: events.HookTest, Severity: events.Info, At: now, Seen: now,
		Subject: hooks.Subject(hook), By: whoami(a.deps.Getenv), Message: "a test of hook " + hook + "; nothing has happened",
	}
}

// serverNote says that no server is there to do it, if none is.
func (a *app) serverNote(l *live) bool {
	if _, leads := l.Get(l.layout.ElectionKey()); leads {
		return false
	}
	a.note("%s; it is done when one does", observed.Meaning[observed.NoServer])
	a.note("  next: %s", a.err.bold("systemctl start pgctrl-server"))
	return true
}
