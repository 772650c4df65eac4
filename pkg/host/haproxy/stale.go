package haproxy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// cutPasses are when old workers are searched after an edge. More than once,
// because a connection that is still being tried (for up to 5 s, by the
// configuration's timeout and retries) can land on the wrong server after a pass:
// an old worker's view of its servers is frozen.
var cutPasses = []time.Duration{0, 250 * time.Millisecond, time.Second, 3 * time.Second, 6 * time.Second}

// cutOldWorkers ends, in the background, the sessions that old workers still have
// with read-write servers that are held down now. A later edge replaces it.
func (r *Router) cutOldWorkers(u *unitState, unit plan.Unit) {
	if u.cut != nil {
		u.cut()
		u.cut = nil
	}
	down := map[string]bool{}
	each(unit, func(role plan.RouteRole, path string, _ plan.RouteServer, t plan.Target) {
		if role == plan.RoutePrimary && t.Held == plan.Down && !t.Stay {
			down[path] = true
		}
	})
	if len(down) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(r.life)
	u.cut = cancel
	r.cuts.Go(func() {
		defer cancel()
		start := time.Now()
		for _, at := range cutPasses {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(start.Add(at))):
			}
			if more := r.cutOnce(ctx, unit.Unit, down); !more {
				return
			}
		}
	})
}

// cutOnce makes one pass over the old workers, all at once, and reports whether
// there were any. A reload may be under way, so failing to ask counts as "some".
func (r *Router) cutOnce(ctx context.Context, unit string, down map[string]bool) (more bool) {
	p, err := showProc(ctx, r.master(unit))
	if err != nil {
		return ctx.Err() == nil
	}
	var g errgroup.Group
	for _, pid := range p.Old {
		g.Go(func() error {
			n, err := r.cutWorker(ctx, unit, pid, down)
			if n > 0 {
				r.o.Log.Info("sessions of an old worker ended", zap.String("unit", unit), zap.Int("worker", pid), zap.Int("sessions", n))
			}
			if err != nil && ctx.Err() == nil { // it may have exited meanwhile
				r.o.Log.Debug("old worker not searched", zap.String("unit", unit), zap.Int("worker", pid), zap.Error(err))
			}
			return nil
		})
	}
	_ = g.Wait()
	return len(p.Old) > 0
}

func (r *Router) cutWorker(ctx context.Context, unit string, pid int, down map[string]bool) (int, error) {
	text, err := askMaster(ctx, r.master(unit), fmt.Sprintf("@!%d show sess", pid))
	if err != nil {
		return 0, err
	}
	var cmds []string
	for _, s := range parseSessions(text) {
		if s.Server != "" && down[s.Backend+"/"+s.Server] {
			cmds = append(cmds, fmt.Sprintf("@!%d shutdown session %s", pid, s.ID))
		}
	}
	const perLine = maxLine / 64
	for i := 0; i < len(cmds); i += perLine {
		text, err := askMaster(ctx, r.master(unit), cmds[i:min(i+perLine, len(cmds))]...)
		if err != nil {
			return i, err
		}
		// A session that ended by itself meanwhile is what was wanted.
		if strings.Contains(text, "ermission denied") || strings.Contains(text, "Unknown command") {
			return i, fmt.Errorf("%w: shutdown session: %s", ErrReply, strings.TrimSpace(text))
		}
	}
	return len(cmds), nil
}
