package simulation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	pat "github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// rig is a host as one run of its agent sees it.
type rig struct {
	h      *host
	p      *process
	bug    string
	router *router
}

func (r *rig) wire() agent.Host {
	r.router = &router{rig: r}
	return agent.Host{
		Drivers: func(_ string, secret func(string) ([]byte, bool)) agent.Drivers {
			return agent.Drivers{Unit: &unitDriver{r, secret}, Patroni: &configDriver{r}, SQL: &sqlObjects{rig: r}}
		},
		Router: r.router, Postgres: func(string, plan.Member) agent.PostgresWatcher { return newWatcher(r) },
		Peers: peers{r}, Inventory: inventory{r}, Takeover: takeover{r},
		Addresses: addresses{r}, Patroni: loopback{r}, Contested: r.router.unanswered,
	}
}

// locked runs f with the world's lock, unless the process is stopped or dead.
func (r *rig) locked(f func() error) error {
	if err := r.p.pass(); err != nil {
		return err
	}
	r.h.w.mu.Lock()
	defer r.h.w.mu.Unlock()
	if r.p.killed() {
		return errKilled
	}
	return f()
}

// takes lets time pass in the process, as waiting for another program does.
func (r *rig) takes(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return r.p.pass()
}

type inventory struct{ *rig }

func (i inventory) MachineID() (string, error) { return "machine-" + i.h.node, nil }

func (i inventory) Programs(context.Context) (map[string]string, []int, error) {
	return map[string]string{"patroni": "3.0.4", "haproxy": "2.6.12"}, []int{15}, i.p.pass()
}

type takeover struct{ *rig }

func (t takeover) Prepare(context.Context, string, plan.Member, plan.Unit) ([]string, error) {
	return nil, t.p.pass()
}

type peers struct{ *rig }

func (p peers) Status(ctx context.Context, m plan.Member) (pat.Status, error) {
	var out pat.Status
	hang := false
	err := p.locked(func() error {
		o := p.h.w.member(m.Name)
		if o == nil || !p.h.reaches(o) || o.pat.state == patPaused {
			hang = true
			return nil
		}
		if o.pat.state != patRunning {
			return errors.New("connection refused")
		}
		out = o.pat.status()
		return nil
	})
	if hang {
		<-ctx.Done()
		return out, ctx.Err()
	}
	return out, err
}

func (p peers) Answers(ctx context.Context, m plan.Member) error {
	there := false
	err := p.locked(func() error {
		o := p.h.w.member(m.Name)
		there = o != nil && p.h.reaches(o)
		if there && (o.pat.pg == pgOff || o.pat.pg == pgStarting && !o.pat.data) {
			return errors.New("connection refused")
		}
		return nil
	})
	if err == nil && !there {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// watcher asks the host's PostgreSQL again and again over one connection.
type watcher struct {
	*rig
	mu   sync.Mutex
	last agent.PostgresState
	fast bool
	poke chan struct{}
}

func newWatcher(r *rig) *watcher {
	return &watcher{rig: r, poke: make(chan struct{}, 1)}
}

func (w *watcher) Last() agent.PostgresState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

func (w *watcher) Fast(on bool) {
	w.mu.Lock()
	was := w.fast
	w.fast = on
	w.mu.Unlock()
	if on && !was {
		select {
		case w.poke <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) Run(ctx context.Context, changed func()) {
	for first := true; ctx.Err() == nil; first = false {
		at := time.Now()
		var now agent.PostgresState
		if w.locked(func() error { now = w.h.pat.answer(); return nil }) != nil {
			return
		}
		if w.bug == BugConfirmsByLock && now.Reachable {
			w.h.w.mu.Lock()
			now.InRecovery = now.InRecovery && !w.h.pat.lock
			w.h.w.mu.Unlock()
		}
		w.mu.Lock()
		before := w.last
		w.last = now
		w.last.At = at
		every := 250 * time.Millisecond
		if w.fast {
			every = 2 * time.Millisecond
		}
		w.mu.Unlock()
		before.At = time.Time{}
		if first || before != now {
			changed()
		}
		t := time.NewTimer(every)
		select {
		case <-t.C:
		case <-w.poke:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// unitDriver is the transaction of pkg/host/unit as far as timing and order matter.
type unitDriver struct {
	*rig
	secret func(string) ([]byte, bool)
}

func (d *unitDriver) wanted(u plan.Unit) (string, error) {
	for _, f := range u.Files {
		if _, err := plan.Expand(f.Content, plan.Values{Secret: d.secret, Verifier: verifier}); err != nil {
			return "", fmt.Errorf("expand %s: %w", f.Path, err)
		}
	}
	return plan.Hash(plan.Resources{u}, nil), nil
}

func (d *unitDriver) Diff(_ context.Context, u plan.Unit) (diff plan.Diff, err error) {
	want, err := d.wanted(u)
	if err != nil {
		return nil, err
	}
	return diff, d.locked(func() error {
		if d.h.units[u.Unit] != want {
			diff = plan.Diff{"files differ"}
		} else if u.Program == "haproxy" && !d.h.proxy.running {
			diff = plan.Diff{"not running"}
		}
		return nil
	})
}

func (d *unitDriver) Apply(ctx context.Context, u plan.Unit, at plan.Epoch) error {
	want, err := d.wanted(u)
	if err != nil {
		return err
	}
	w := d.h.w
	if err := d.takes(ctx, 50*time.Millisecond+time.Duration(250*w.chance("validate", d.h.node, want)*float64(time.Millisecond))); err != nil {
		return err
	}
	err = d.locked(func() error {
		w.acted(act{h: d.h, p: d.p, kind: actApply, unit: u.Unit, hash: want, epoch: at})
		w.say(d.h.node, "applies %s", u.Unit)
		d.h.units[u.Unit] = want
		if u.Program == "patroni" {
			d.h.pat.install()
		}
		return nil
	})
	if err != nil || u.Program != "haproxy" {
		return err
	}
	return d.router.reload(ctx, u)
}

func (d *unitDriver) Remove(_ context.Context, u plan.Unit, _ plan.Epoch) error {
	return d.locked(func() error {
		d.h.w.acted(act{h: d.h, p: d.p, kind: actRemove, unit: u.Unit})
		d.h.w.say(d.h.node, "REMOVES %s", u.Unit)
		delete(d.h.units, u.Unit)
		return nil
	})
}

// configDriver is Patroni's dynamic configuration through the local REST API.
type configDriver struct{ *rig }

func (d *configDriver) Diff(_ context.Context, p plan.Patroni) (diff plan.Diff, err error) {
	return diff, d.locked(func() error {
		if d.h.pat.state != patRunning {
			return &plan.Refusal{Reason: "NotAnswering", Message: "Patroni does not answer"}
		}
		if d.h.config != fmt.Sprint(p.Config) {
			diff = plan.Diff{"dynamic configuration differs"}
		}
		return nil
	})
}

func (d *configDriver) Apply(_ context.Context, p plan.Patroni, at plan.Epoch) error {
	return d.locked(func() error {
		d.h.w.acted(act{h: d.h, p: d.p, kind: actConfig, epoch: at})
		for _, h := range d.h.w.hosts {
			h.config = fmt.Sprint(p.Config)
		}
		return nil
	})
}

func (d *configDriver) Remove(context.Context, plan.Patroni, plan.Epoch) error {
	return d.locked(func() error {
		d.h.w.acted(act{h: d.h, p: d.p, kind: actRemove, unit: "patroni " + cluster})
		return nil
	})
}

// verifier stands for a secret's SCRAM verifier.
func verifier(name string, _ []byte) (string, error) { return "verifier of " + name, nil }
