package agent

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// reply is what is written beside a step.
type reply struct {
	client *store.Client
	words  *zap.Logger
	asked  kv.KV
	result string // the result's key
	rev    int64  // its mod revision
	last   observed.StepResult
}

// stepID is a step's name below the node's steps.
func (a *Agent) stepID(key string) string {
	return strings.TrimPrefix(key, a.o.Layout.NodeSteps(a.o.Node))
}

func (a *Agent) replyTo(e kv.KV, log *zap.Logger) reply {
	return reply{client: a.client.Load(), words: log, asked: e, result: a.o.Layout.ResultKey(a.o.Node, a.stepID(e.Key))}
}

// refuse says no while somebody asks: an answer to a step that is gone would stay for ever.
func (s *reply) refuse(ctx context.Context, no *observed.StepResult) error {
	err := s.say(ctx, no, store.ModIs(s.asked.Key, s.asked.ModRevision))
	var c *store.Conflict
	if errors.As(err, &c) && c.Key == s.asked.Key {
		return nil
	}
	return err
}

// say writes the result, over the one this process wrote last. etcd may be away for
// a while, and the answer is worth waiting for.
func (s *reply) say(ctx context.Context, r *observed.StepResult, guards ...store.Guard) error {
	if r == nil {
		return nil
	}
	r.Schema, r.Step = observed.Schema, s.asked.ModRevision
	guards = append(guards, store.ModIs(s.result, s.rev))
	for {
		rev, err := s.client.Commit(ctx, guards, []store.Op{store.Put(s.result, observed.Encode(r))})
		if err == nil {
			s.rev, s.last = rev, *r
			s.words.Info("step", zap.String("key", s.asked.Key), zap.String("state", string(r.State)), zap.String("message", r.Message))
			return nil
		}
		if errors.Is(err, store.ErrConflict) || ctx.Err() != nil || !r.Final() {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
