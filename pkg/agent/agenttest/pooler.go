package agenttest

import (
	"context"
	"sync"

	"github.com/pgctrl/pgctrl/pkg/agent"
)

// Pooler is a host's PgBouncer. Nobody watches it before its agent has a plan of one.
type Pooler struct {
	mu       sync.Mutex
	state    agent.PoolerState
	resumed  []agent.Repair
	handsOff bool
	news     chan struct{}
}

// Pooler is the host's only one.
func (h *Host) Pooler() *Pooler { return h.pooler }

func newPooler() *Pooler { return &Pooler{news: make(chan struct{}, 1)} }

// Set makes the watcher find the pooler up, or down for a reason.
func (p *Pooler) Set(why string) {
	p.mu.Lock()
	p.state = agent.PoolerState{Known: true, Up: why == "", Why: why}
	p.mu.Unlock()
	p.tell()
}

// Resumed has the watcher end a pause.
func (p *Pooler) Resumed(what string) {
	p.mu.Lock()
	p.resumed = append(p.resumed, agent.Repair{What: what, Was: "paused"})
	p.mu.Unlock()
	p.tell()
}

// IsHandsOff reports whether what people paused is left so.
func (p *Pooler) IsHandsOff() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handsOff
}

func (p *Pooler) tell() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

type poolerWatcher struct{ p *Pooler }

func (w poolerWatcher) Run(ctx context.Context, changed func()) {
	changed()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.p.news:
			changed()
		}
	}
}

func (w poolerWatcher) Last() agent.PoolerState {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.state
}

func (w poolerWatcher) Repairs() []agent.Repair {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	out := w.p.resumed
	w.p.resumed = nil
	return out
}

func (w poolerWatcher) HandsOff(off bool) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.handsOff = off
}
