package command

import (
	"context"
	"sync"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/host/files/watch"
	"github.com/pgctrl/pgctrl/pkg/host/haproxy"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// watcher fits the host's event sources to the agent: a unit's files and the unit.
type watcher struct {
	files *watch.Watcher
	units *systemd.Signals
}

// Watch implements agent.Watcher.
func (w watcher) Watch(ctx context.Context, r plan.Resource, changed func()) {
	if f, ok := r.(plan.Watched); ok {
		w.files.Watch(ctx, []string{f.File}, changed)
		return
	}
	u, ok := r.(plan.Unit)
	if !ok {
		<-ctx.Done()
		return
	}
	var paths []string
	for _, f := range u.Files {
		paths = append(paths, f.Path)
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.files.Watch(ctx, paths, changed) })
	wg.Go(func() { w.units.Watch(ctx, u.Unit, changed) })
	wg.Wait()
}

func (w watcher) close() {
	w.files.Close()
	w.units.Close()
}

// setByHand fits what the router undid to the agent.
func setByHand(router *haproxy.Router) func(unit string) []agent.Repair {
	return func(unit string) []agent.Repair {
		var out []agent.Repair
		for _, h := range router.Repairs(unit) {
			out = append(out, agent.Repair{What: "server " + h.Server, Was: h.Was})
		}
		return out
	}
}
