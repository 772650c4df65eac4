package agenttest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// InPlace is a fake of a member's data directory and its Patroni: folders are names, and
// Patroni runs or does not.
type InPlace struct {
	mu     sync.Mutex
	events []string
	// data is what is in each folder; the scratch restores' are theirs.
	data    map[string]string
	up      bool
	fail    map[string]error
	scratch *Scratch
}

func newInPlace(s *Scratch) *InPlace {
	return &InPlace{data: map[string]string{}, up: true, fail: map[string]error{}, scratch: s}
}

// InPlace is the host's data directory.
func (h *Host) InPlace() *InPlace { return h.inplace }

// Put puts data into a folder.
func (p *InPlace) Put(dir, data string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data[dir] = data
}

// Data is what is in a folder; empty: nothing.
func (p *InPlace) Data(dir string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.data[dir]
}

// Up reports whether Patroni runs.
func (p *InPlace) Up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

// SetUp is what a boot of the host does.
func (p *InPlace) SetUp(up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = up
}

// Fail makes an act fail; nil ends it.
func (p *InPlace) Fail(act string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail[act] = err
}

// Events returns what was done, in order.
func (p *InPlace) Events() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.events...)
}

// begin notes an act. The caller holds mu.
func (p *InPlace) begin(act string) error {
	p.events = append(p.events, act)
	return p.fail[act]
}

// CanSwap implements agent.InPlace.
func (p *InPlace) CanSwap(plan.Restore) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fail["can swap"]
}

// Left implements agent.InPlace.
func (p *InPlace) Left(plan.Restore) []string { return p.scratch.Dirs() }

// Aside implements agent.InPlace.
func (p *InPlace) Aside(_ context.Context, _ string, r plan.Restore) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.begin("set aside"); err != nil {
		return "", err
	}
	return p.aside(r), nil
}

// Kept implements agent.InPlace.
func (p *InPlace) Kept(r plan.Restore) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.data[r.Before()] != ""
}

// aside is Aside. The caller holds mu.
func (p *InPlace) aside(r plan.Restore) string {
	p.up = false
	if p.data[r.Data] == "" {
		if p.data[r.Before()] != "" {
			return r.Before()
		}
		return ""
	}
	where := p.free(r.Before())
	p.move(r.Data, where)
	return where
}

// Swap implements agent.InPlace.
func (p *InPlace) Swap(_ context.Context, _ string, r plan.Restore) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.begin("swap"); err != nil {
		return err
	}
	prepared := p.data[r.Prepared()+"/data"] != ""
	switch {
	case !prepared && p.data[r.Data] != "" && p.data[r.Before()] != "":
		p.up = false
		return nil
	case !prepared:
		return errors.New("nothing was prepared")
	}
	p.aside(r)
	p.move(r.Prepared()+"/data", r.Data)
	return nil
}

// Back implements agent.InPlace.
func (p *InPlace) Back(_ context.Context, _ string, r plan.Restore) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.begin("put back"); err != nil {
		return err
	}
	if p.data[r.Before()] == "" {
		return nil
	}
	p.up = false
	if p.data[r.Data] != "" {
		p.move(r.Data, p.free(r.Undone()))
	}
	p.move(r.Before(), r.Data)
	return nil
}

// move renames. The caller holds mu.
func (p *InPlace) move(from, to string) {
	p.data[to] = p.data[from]
	delete(p.data, from)
}

// free is a name that nothing has. The caller holds mu.
func (p *InPlace) free(name string) string {
	for i, is := 2, name; ; i++ {
		if p.data[is] == "" {
			return is
		}
		is = fmt.Sprintf("%s-%d", name, i)
	}
}

// Start implements agent.InPlace.
func (p *InPlace) Start(context.Context, string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.begin("start"); err != nil {
		return err
	}
	p.up = p.fail["run"] == nil
	return nil
}

// Runs implements agent.InPlace.
func (p *InPlace) Runs(context.Context, string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.up {
		return errors.New("patroni@c.service has ended: its last words")
	}
	return nil
}

// Discard implements agent.InPlace.
func (p *InPlace) Discard(r plan.Restore) (removed []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.begin("discard"); err != nil {
		return nil, err
	}
	if p.data[r.Before()] != "" && p.data[r.Data] == "" {
		return nil, &plan.Refusal{Reason: observed.Unmanaged, Message: "they are the only data here"}
	}
	for _, dir := range r.Kept() {
		for _, of := range []string{dir, dir + "-2"} {
			if p.data[of] != "" {
				delete(p.data, of)
				removed = append(removed, of)
			}
		}
	}
	return removed, nil
}
