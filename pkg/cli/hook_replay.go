package cli

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// letter is a dead letter with the event's fields that a list shows.
type letter struct {
	ID string `json:"id"`
	hooks.Letter

	event  events.Event
	stored kv.KV
}

// dead are a hook's dead letters, the oldest first.
func (l *live) dead(scope, hook string) []letter {
	prefix := l.layout.DeadLetters(recordsOf(scope), hook)
	var out []letter
	for _, e := range l.Range(prefix) {
		d := letter{ID: strings.Replace(strings.TrimPrefix(e.Key, prefix), ".", "/", 1), stored: e}
		if json.Unmarshal(e.Value, &d.Letter) == nil && json.Unmarshal(d.Event, &d.event) == nil {
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(x, y letter) int { return hooks.Compare(x.event, y.event) })
	return out
}

func completeDead(l *live, args []string, _ string) []string {
	var out []string
	for _, d := range l.dead(args[0], args[1]) {
		out = append(out, d.ID)
	}
	return out
}

func (a *app) hookDead() *cobra.Command {
	c := &cobra.Command{
		Use: "dead <cluster> <hook>", Short: "Events that were given up", Args: cobra.ExactArgs(2),
		Long:    "Dead letters, the oldest first: what the receiver did not take, and why. " + strconv.Itoa(hooks.MaxDead) + " are kept of a\nhook; the oldest make room.",
		Example: "  pgctrl hook dead pg-test page\n  pgctrl hook dead pg-test page -o json", ValidArgsFunction: a.complete(hookScopes, completeHooks),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), hookFamilies...)
			if err != nil {
				return err
			}
			if _, err := l.hook(args[0], args[1]); err != nil {
				return err
			}
			found := append([]letter{}, l.dead(args[0], args[1])...)
			return a.emit(found, func() {
				if len(found) == 0 {
					a.note("none: every event was delivered, or waits to be")
					return
				}
				t := newTable(a.out, "EVENT", "KIND", ">HAPPENED", ">ATTEMPTS", ">GIVEN UP", "WHY")
				for _, d := range found {
					t.row(d.ID, string(d.event.Kind), a.ago(d.event.At), itoa(d.Attempts), a.ago(d.At), d.Error)
				}
				t.write(a.Out)
				a.note("  next: %s", a.err.bold("pgctrl hook replay "+args[0]+" "+args[1]+" --all"))
			})
		},
	}
	return a.withFormat(c)
}

func (a *app) hookReplay() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "replay <cluster> <hook> [<event> ...]", Short: "Deliver dead letters once more", Args: cobra.MinimumNArgs(2),
		Long: `Asks the server to deliver events that were given up, one attempt each, between the
events that happen now. What is not taken is a dead letter again.`,
		Example:           "  pgctrl hook replay pg-test page pg-test/1042-0\n  pgctrl hook replay pg-test page --all",
		ValidArgsFunction: a.complete(hookScopes, completeHooks, completeDead),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 2) {
				return fail("expected either events or --all").then("pgctrl hook dead %s %s", args[0], args[1])
			}
			return a.replay(cmd.Context(), args[0], args[1], args[2:])
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every dead letter of the hook")
	return c
}

func (a *app) replay(ctx context.Context, scope, hook string, ids []string) error {
	l, err := a.read(ctx, hookFamilies...)
	if err != nil {
		return err
	}
	t, err := l.hook(scope, hook)
	if err != nil {
		return err
	}
	if err := delivers(t); err != nil {
		return err
	}
	found := l.dead(scope, hook)
	if len(ids) > 0 {
		if found, err = chosen(found, scope, hook, ids); err != nil {
			return err
		}
	}
	if len(found) == 0 {
		a.say("no dead letters")
		return nil
	}
	client, err := a.connect(ctx)
	if err != nil {
		return err
	}
	asked := 0
	for _, d := range found {
		value, err := json.Marshal(hooks.Again{
			Schema: hooks.Schema, Event: d.Event, Attempts: d.Attempts, Since: d.Since, By: whoami(a.deps.Getenv),
		})
		if err != nil {
			return err
		}
		_, err = client.Commit(ctx, []store.Guard{store.ModIs(d.stored.Key, d.stored.ModRevision)}, []store.Op{
			store.Delete(d.stored.Key), store.Put(l.layout.Redelivery(recordsOf(scope), hook, hooks.ID(d.event)), value),
		})
		switch {
		case errors.Is(err, store.ErrConflict):
			a.note("%s is no dead letter any more", d.ID)
			continue
		case err != nil:
			return err
		}
		asked++
	}
	a.say("asked for %d of %d once more", asked, len(found))
	if !a.serverNote(l) {
		a.note("  next: %s", a.err.bold("pgctrl hook show "+scope+" "+hook))
	}
	return nil
}

// delivers refuses what no server will do.
func delivers(t told) error {
	switch t.Status {
	case "off":
		f := fail("hook %s is switched off. Nothing was written.", t.Hook)
		if t.Cluster == scopeHooks {
			return f.then("pgctrl set %s %s enabled=true", t.Cluster, t.Hook)
		}
		return f.then("pgctrl set %s hooks/%s enabled=true", t.Cluster, t.Hook)
	case "wrong":
		return fail("the document of hook %s can't be used: %s. Nothing was written.", t.Hook, t.Why).then("pgctrl explain hooks")
	case "left":
		return fail("hook %s has no document any more. Nothing was written.", t.Hook).then("pgctrl hook forget %s %s", t.Cluster, t.Hook)
	}
	return nil
}

// chosen are the dead letters that were named: 1042-0 or pg-test/1042-0.
func chosen(found []letter, scope, hook string, ids []string) ([]letter, error) {
	var out []letter
	var names []string
	for _, d := range found {
		names = append(names, d.ID)
	}
	for _, id := range ids {
		i := slices.IndexFunc(found, func(d letter) bool { return d.ID == id || d.ID == scope+"/"+id })
		if i < 0 {
			return nil, fail("hook %s has no dead letter %s%s. Nothing was written.", hook, id, strings.TrimSuffix(didYouMean(id, names), ".")).
				then("pgctrl hook dead %s %s", scope, hook)
		}
		out = append(out, found[i])
	}
	return out, nil
}

// testTime is how long a test waits for its answer.
const testTime = 30 * time.Second

func (a *app) hookTest() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "test <cluster> <hook>", Short: "Deliver an event of kind hook.test, now", Args: cobra.ExactArgs(2),
		Long:    "Asks the server to send the hook's receiver one event of kind hook.test, whatever the hook\nwants otherwise, and says what came of it.",
		Example: "  pgctrl hook test pg-test page\n  pgctrl hook test hooks audit", ValidArgsFunction: a.complete(hookScopes, completeHooks),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.testHook(cmd.Context(), args[0], args[1], wait)
		},
	}
	c.Flags().DurationVar(&wait, "wait", testTime, "how long to wait for the answer")
	return c
}

func (a *app) testHook(ctx context.Context, scope, hook string, wait time.Duration) error {
	l, err := a.read(ctx, hookFamilies...)
	if err != nil {
		return err
	}
	t, err := l.hook(scope, hook)
	if err != nil {
		return err
	}
	if err := delivers(t); err != nil {
		return err
	}
	client, err := a.connect(ctx)
	if err != nil {
		return err
	}
	e := a.testEvent(scope, hook, "test-"+strconv.FormatInt(a.deps.Now().UnixNano(), 36))
	value, err := json.Marshal(e)
	if err == nil {
		value, err = json.Marshal(hooks.Again{Schema: hooks.Schema, Event: value, Since: e.At, By: e.By, Test: true})
	}
	if err != nil {
		return err
	}
	key := l.layout.Redelivery(recordsOf(scope), hook, hooks.ID(e))
	if _, err := client.Commit(ctx, nil, []store.Op{store.Put(key, value)}); err != nil {
		return err
	}
	answer, err := awaitTest(ctx, client, l.layout.DeliveryState(recordsOf(scope), hook), e.ID, wait)
	switch {
	case err != nil:
		return err
	case answer == nil:
		// Nobody waits for it any more.
		if _, err := client.Commit(ctx, nil, []store.Op{store.Delete(key)}); err != nil {
			return err
		}
		return fail("no server has delivered it within %s", wait).then("pgctrl status").then("pgctrl hook show %s %s", scope, hook)
	case answer.Error != "":
		return fail("%s did not take it: %s", t.To, answer.Error).then("pgctrl explain hooks")
	}
	a.say("delivered to %s in %d ms", t.To, answer.TookMS)
	return nil
}

// awaitTest waits for the answer to a test; nil when there is none in time.
func awaitTest(ctx context.Context, c *store.Client, key, id string, wait time.Duration) (*hooks.Test, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		e, _, err := c.Get(ctx, key)
		var s hooks.State
		if err == nil && json.Unmarshal(e.Value, &s) == nil && s.LastTest != nil && s.LastTest.ID == id {
			return s.LastTest, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-over.C:
			return nil, err
		case <-tick.C:
		}
	}
}

func (a *app) hookForget() *cobra.Command {
	return &cobra.Command{
		Use: "forget <cluster> <hook>", Short: "Delete what a removed hook left", Args: cobra.ExactArgs(2),
		Long:    "A hook whose document is deleted leaves its dead letters and how far it was. This\ndeletes them.",
		Example: "  pgctrl hook forget pg-test page", ValidArgsFunction: a.complete(hookScopes, completeHooks),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), hookFamilies...)
			if err != nil {
				return err
			}
			t, err := l.hook(args[0], args[1])
			if err != nil {
				return err
			}
			if t.Status != "left" {
				return fail("hook %s has a document. Nothing was deleted.", t.Hook).then("pgctrl hook show %s %s", args[0], args[1])
			}
			client, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			state := l.layout.DeliveryState(recordsOf(args[0]), t.Hook)
			guard := store.ModIs(hookKey(l.layout, args[0], t.Hook), 0)
			all := l.Range(strings.TrimSuffix(state, "state"))
			for part := range slices.Chunk(all, store.MaxOps) {
				var ops []store.Op
				for _, e := range part {
					ops = append(ops, store.Delete(e.Key))
				}
				if _, err := client.Commit(cmd.Context(), []store.Guard{guard}, ops); err != nil {
					return err
				}
			}
			a.say("forgotten: hook %s with %d dead letters", t.Hook, t.DeadLetters)
			return nil
		},
	}
}
