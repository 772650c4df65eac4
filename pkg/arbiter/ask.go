package arbiter

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/delivery"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/hookrun"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

// ask asks one hook until it has said its last word or its deadline is over, and tells every
// answer.
func (s *session) ask(ctx context.Context, h verdicts.Hook, began time.Time, tell func(verdicts.Hook)) {
	ctx, cancel := context.WithDeadline(ctx, h.Deadline)
	defer cancel()
	for failures := 0; ; {
		a := s.attempt(ctx, h)
		if ctx.Err() != nil {
			return // what was cut short says nothing, and the deadline is the judge's
		}
		h.Tries++
		h.State, h.Message, h.Again, h.TookMS = a.State, a.Message, nil, time.Since(began).Milliseconds()
		switch a.State {
		case verdicts.Failed:
			failures++
			a.After = s.Wait(failures)
		case verdicts.Delayed:
			failures = 0
		}
		if !h.State.Final() {
			at := time.Now().UTC().Add(a.After)
			h.Again = &at
		}
		tell(h)
		if h.State.Final() || !idle.For(ctx, a.After) {
			return
		}
	}
}

// attempt asks once. A fault of this program in it costs the attempt and nothing else.
func (s *session) attempt(ctx context.Context, h verdicts.Hook) (a verdicts.Answer) {
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("asking a hook failed", zap.String("key", s.key), zap.Stringer("hook", h), zap.Any("panic", p), zap.Stack("stack"))
			a = verdicts.Failing("internal error of the server; its log says more")
		}
	}()
	// The document is read each time: it may be put right while somebody waits.
	e, there, err := s.Client.Get(ctx, h.Key(s.Layout, s.question.Cluster))
	if err != nil {
		return verdicts.Failing(err.Error())
	}
	doc, _ := desired.ReadHook(s.Layout, e)
	switch {
	case !there:
		return verdicts.Answer{State: verdicts.Allowed, Message: "its document is gone"}
	case doc == nil:
		return verdicts.Failing("its document can't be used")
	case !doc.Enabled || !slices.Contains(doc.Before, s.question.Operation):
		return verdicts.Answer{State: verdicts.Allowed, Message: "its document does not want to be asked any more"}
	}
	scope := hooks.Scope(s.Layout, doc)
	q := s.question.Ask(h, scope)
	body, err := json.Marshal(q)
	if err != nil {
		return verdicts.Failing(err.Error())
	}
	if doc.Webhook.URL == "" {
		return s.program(ctx, doc, h, body) // whose time begins when its node does
	}
	ctx, cancel := context.WithTimeout(ctx, doc.Span())
	defer cancel()
	secret, _, err := s.Client.Get(ctx, s.Layout.Secret(scope, keys.HookSecret(doc.Name)))
	if err != nil {
		return verdicts.Failing(err.Error())
	}
	r, err := delivery.Question(ctx, doc, s.Version, body, secret.Value, func(secret []byte) map[string]string {
		return q.Headers(s.Version, time.Now(), body, secret)
	})
	if err != nil {
		return verdicts.Failing(err.Error())
	}
	return verdicts.ReadHTTP(r.Status, r.RetryAfter, r.Body, r.Whole)
}

// program has a command hook's program run.
func (s *session) program(ctx context.Context, doc *desired.Hook, h verdicts.Hook, body []byte) verdicts.Answer {
	scope := s.question.Cluster
	if h.Fleet {
		scope = keys.Fleet
	}
	out, err := s.programs.Run(ctx, hookrun.Order{
		Cluster: s.question.Cluster, Hook: doc.Name, Scope: scope, Node: doc.Command.On, Program: doc.Command.Program, Arguments: doc.Command.Arguments,
		Event: body, EventID: s.question.Cluster + "/" + s.question.ID, Kind: "before." + s.question.Operation,
		Timeout: doc.Span(), Attempt: h.Tries + 1,
	})
	switch {
	case err == nil && out.TimedOut:
		return verdicts.Failing(fmt.Sprintf("%s did not end within %s", doc.Command.Program, doc.Timeout))
	case err != nil:
		return verdicts.Failing(err.Error())
	case out.Exit < 0:
		if err = out.Err(); err != nil {
			return verdicts.Failing(err.Error())
		}
	}
	return verdicts.ReadExit(out.Exit, out.Output)
}
