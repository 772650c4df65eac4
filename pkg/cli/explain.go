package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

func (a *app) explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "explain [<document>[.<field>] | <Reason> | events]", Short: "What a document, a field, a reason or an event means",
		Long: "Explains what people write and what they read: the fields of a document with\ntype, default and the effect of a change, a reason that status shows, or the kinds\nof events. It needs no etcd.",
		Example: "  pgctrl explain\n  pgctrl explain postgres\n  pgctrl explain members.failover_priority\n" +
			"  pgctrl explain PendingRestart\n  pgctrl explain events",
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			return slices.DeleteFunc(explainable(typed), func(n string) bool { return !strings.HasPrefix(n, typed) }), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.explainKinds()
			}
			if args[0] == topicEvents {
				return a.explainEvents()
			}
			return a.explainTopic(args[0])
		},
	}
	return a.withFormat(c)
}

// topicEvents is what stands where a document does and means the kinds of events.
const topicEvents = "events"

func (a *app) explainEvents() error {
	return a.emit(events.Kinds, func() {
		t := newTable(a.out, "KIND", "SEVERITY", "MEANING")
		for _, d := range events.Kinds {
			t.row(string(d.Kind), a.severityWord(d.Severity), d.Meaning)
		}
		t.write(a.Out)
	})
}

func explainable(typed string) []string {
	out := []string{topicEvents}
	for _, k := range desired.Kinds() {
		out = append(out, k.Name)
		if strings.HasPrefix(typed, k.Name+".") {
			out = append(out, prefixed(k.Name+".", desired.Complete(k.Name, strings.TrimPrefix(typed, k.Name+".")))...)
		}
	}
	if typed != "" && typed[0] >= 'A' && typed[0] <= 'Z' {
		out = append(out, reasonNames()...)
	}
	return out
}

func prefixed(p string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = p + n
	}
	return out
}

func reasonNames() []string {
	out := make([]string, 0, len(observed.Meaning))
	for r := range observed.Meaning {
		out = append(out, string(r))
	}
	slices.Sort(out)
	return out
}

func (a *app) explainKinds() error {
	kinds := desired.Kinds()
	return a.emit(kinds, func() {
		t := newTable(a.out, "DOCUMENT", "MEANING")
		for _, k := range kinds {
			name := k.Name
			if k.Named {
				name += "/<name>"
			}
			t.row(name, k.Meaning)
		}
		t.write(a.Out)
		a.say("\nFields: pgctrl explain <document>    Reasons in status: pgctrl explain <Reason>")
	})
}

func (a *app) explainTopic(topic string) error {
	for r, meaning := range observed.Meaning {
		if strings.EqualFold(string(r), topic) {
			v := struct {
				Reason  observed.Reason `json:"reason"`
				Meaning string          `json:"meaning"`
			}{r, meaning}
			return a.emit(v, func() { a.say("%s: %s", a.out.bold(string(r)), meaning) })
		}
	}
	document, field, _ := strings.Cut(topic, ".")
	kind, err := desired.KindOf(document)
	if err != nil {
		if topic[0] >= 'A' && topic[0] <= 'Z' {
			return fail("no reason %q%s", topic, didYouMean(topic, reasonNames())).then("pgctrl status (shows the reasons that apply)")
		}
		return fail("%s", err).then("pgctrl explain")
	}
	if field != "" {
		return a.explainField(kind, field)
	}
	return a.emit(kind, func() { a.showKind(kind) })
}

// longDefault is the length from which on a default needs a sentence, not a column.
const longDefault = 42

func (a *app) showKind(k *desired.Kind) {
	name := k.Name
	if k.Named {
		name += "/<name>"
	}
	a.say("%s: %s\n", a.out.bold(name), k.Meaning)
	t := newTable(a.out, "FIELD", "TYPE", "DEFAULT", "EFFECT", "MEANING")
	for _, f := range k.Fields {
		def, meaning := f.DefaultText(), f.Meaning
		if len(def) > longDefault {
			def, meaning = "(depends)", meaning+" Default: "+f.DefaultNote+"."
		}
		t.row(f.Path, f.TypeText(), def, string(f.Effect), meaning)
	}
	t.write(a.Out)
}

func (a *app) explainField(k *desired.Kind, field string) error {
	var names []string
	for _, f := range k.Fields {
		if f.Path == field || f.Type == desired.Map && strings.HasPrefix(field, f.Path+".") {
			return a.emit(f, func() { a.showField(k, f) })
		}
		names = append(names, f.Path)
	}
	return fail("%s has no field %q%s", k.Name, field, didYouMean(field, names)).then("pgctrl explain %s", k.Name)
}

func (a *app) showField(k *desired.Kind, f desired.Field) {
	a.say("%s: %s\n", a.out.bold(k.Name+"."+f.Path), f.Meaning)
	say := func(name, value string) {
		if value != "" {
			a.say("  %-9s %s", name, value)
		}
	}
	say("type", f.TypeText())
	say("expects", f.Expects())
	say("default", f.DefaultText())
	say("effect", fmt.Sprintf("%s: %s", f.Effect, f.Effect.Meaning()))
	say("example", "pgctrl set "+where(k)+" "+f.Argument())
}

// where is how commands name a document of the kind.
func where(k *desired.Kind) string {
	switch {
	case k.Fleet:
		return k.Name + " <name>"
	case k.Named:
		return "<cluster> " + k.Name + "/<name>"
	}
	return "<cluster> " + k.Name
}
