package arbiter

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

// session is one question. Its goroutine owns it.
type session struct {
	*term
	key               string
	created, revision int64
	question          verdicts.Verdict // as it was found; those who ask read it
	verdict           verdicts.Verdict // as etcd has it
	late              bool             // it was there before this server led, and nobody waits for it
}

// report is what a hook has said.
type report struct {
	index int
	hook  verdicts.Hook
}

// run asks until there is a verdict or ctx ends. A fault of this program in it is one question
// without an answer, which its asker's patience ends.
func (s *session) run(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("question to hooks given up", zap.String("key", s.key), zap.Any("panic", p), zap.Stack("stack"))
		}
	}()
	began := time.Now().UTC()
	said := slices.Clone(s.verdict.Hooks)
	for i := range said {
		said[i].Again, said[i].Deadline = nil, began.Add(said[i].Within())
		if s.late {
			said[i].Deadline = began
		}
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	heard := make(chan report)
	for i, h := range said {
		if h.State.Final() || !time.Now().Before(h.Deadline) {
			continue
		}
		s.group.Go(func() {
			s.ask(ctx, h, began, func(h verdicts.Hook) {
				select {
				case heard <- report{i, h}:
				case <-ctx.Done():
				}
			})
		})
	}
	defer cancel() // they end with the verdict, and the term waits for them
	for {
		now := time.Now()
		next := verdicts.Judge(s.verdict, said, now)
		if tells(s.verdict, next) && !s.write(ctx, next) || next.State.Final() {
			return
		}
		said = next.Hooks
		timer := time.NewTimer(until(said, now))
		select {
		case r := <-heard:
			if said = slices.Clone(said); !said[r.index].State.Final() {
				said[r.index] = r.hook
			}
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// until is how long it is to the next deadline.
func until(said []verdicts.Hook, now time.Time) time.Duration {
	next := time.Hour
	for _, h := range said {
		if !h.State.Final() {
			next = min(next, h.Deadline.Sub(now))
		}
	}
	return max(next, time.Millisecond)
}

// tells reports whether a verdict says more than another one did. An attempt that failed as the
// one before it did is no reason to write.
func tells(was, is verdicts.Verdict) bool {
	return was.State != is.State || !slices.EqualFunc(was.Hooks, is.Hooks, func(a, b verdicts.Hook) bool {
		return a.State == b.State && a.Message == b.Message
	})
}

// write brings the verdict into etcd, and reports whether the question is still ours.
func (s *session) write(ctx context.Context, v verdicts.Verdict) bool {
	for ctx.Err() == nil {
		rev, err := s.Client.Commit(ctx, []store.Guard{s.leadership.Guard(), store.ModIs(s.key, s.revision)}, []store.Op{store.Put(s.key, observed.Encode(v))})
		switch {
		case err == nil:
			s.verdict, s.revision = v, rev
			return true
		case errors.Is(err, store.ErrConflict) && !s.again(ctx):
			return false
		case !errors.Is(err, store.ErrConflict):
			s.Log.Warn("a verdict is not written yet", zap.String("key", s.key), zap.Error(err))
		}
		idle.For(ctx, troubled)
	}
	return false
}

// again looks what was written in between: nothing, when an answer of etcd's got lost, or the end
// of it by who asked.
func (s *session) again(ctx context.Context) bool {
	e, there, err := s.Client.Get(ctx, s.key)
	if err != nil {
		return true // it is asked again with the next write
	}
	v, err := observed.Decode[verdicts.Verdict](e)
	if !there || err != nil || e.CreateRevision != s.created || v.State.Final() {
		return false
	}
	s.revision = e.ModRevision
	return s.leadership.Held()
}
