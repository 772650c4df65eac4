package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// watchEvents shows what there is and then what comes, one line each; with -o json one document
// in each line, for programs.
func (a *app) watchEvents(ctx context.Context, c choice) error {
	show, err := a.eventPrinter(c)
	if err != nil {
		return err
	}
	client, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	m := store.NewMirror(client, store.MirrorOptions{Name: "events", Prefixes: []string{a.eventPrefix(c.cluster)}})
	batches := make(chan []events.Event, 64)
	first := true
	m.OnChange(func(_ int64, cs []store.Change) {
		var list []kv.KV
		for _, ch := range cs {
			if ch.New != nil {
				list = append(list, *ch.New)
			}
		}
		found := slices.DeleteFunc(eventsIn(a.settings.Layout, list), func(e events.Event) bool { return !c.wants(e) })
		if first && (c.since.IsZero() || c.narrow) && len(found) > c.last {
			found = found[len(found)-c.last:]
		}
		first = false
		select {
		case batches <- found:
		case <-ctx.Done():
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	defer func() { stop(); <-ended }()
	stale := time.NewTicker(staleAfter)
	defer stale.Stop()
	told := false
	for {
		select {
		case found := <-batches:
			for _, e := range found {
				if err := show(e); err != nil {
					return err
				}
			}
		case <-stale.C:
			if at, _ := m.Fresh(); time.Since(at) > staleAfter != told {
				told = !told
				if told {
					a.note("etcd has not answered for more than %s; events may be missing until it does", staleAfter)
				} else {
					a.note("etcd answers again; nothing was missed")
				}
			}
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.Canceled) {
				return nil // interrupted, which is how a watch ends
			}
			return context.Cause(ctx)
		}
	}
}

// eventPrinter prints one event after the other. Columns can't know what comes, so those of a
// table have widths that nearly all of it fits into.
func (a *app) eventPrinter(c choice) (func(events.Event) error, error) {
	switch a.format {
	case formatJSON:
		return func(e events.Event) error { return json.NewEncoder(a.Out).Encode(e) }, nil
	case formatYAML:
		return func(e events.Event) error {
			b, err := yaml.Marshal(e)
			if err == nil {
				_, err = fmt.Fprintf(a.Out, "---\n%s", b)
			}
			return err
		}, nil
	case "", formatTable, formatWide:
	default:
		return nil, fail("output format %q is not known: expected %s", a.format, oneOf(formats))
	}
	return func(e events.Event) error {
		line := e.At.UTC().Format("15:04:05.000") + "  " + a.severityWord(e.Severity) + strings.Repeat(" ", max(0, 8-len(e.Severity))) + "  "
		if c.cluster == "" {
			line += fmt.Sprintf("%-12s  ", e.Cluster)
		}
		line += fmt.Sprintf("%-18s  ", e.Kind)
		if a.wide() {
			line += fmt.Sprintf("%-12s  %-12s  ", e.ID, orDash(e.Cause))
		}
		_, err := fmt.Fprintln(a.Out, line+eventWords(e))
		return err
	}, nil
}
