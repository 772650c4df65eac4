package agenttest

import (
	"context"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

type unitDriver struct {
	h      *Host
	secret func(string) ([]byte, bool)
}

// wanted is the state a unit would have: its files with secrets in place, so a
// test notices a unit applied without its secret.
func (d unitDriver) wanted(u plan.Unit) (string, error) {
	for _, f := range u.Files {
		if _, err := plan.Expand(f.Content, plan.Values{Secret: d.secret, Verifier: verifier}); err != nil {
			return "", &plan.Refusal{Reason: observed.WaitingForSecret, Message: err.Error()}
		}
	}
	return plan.Hash(plan.Resources{u}, nil), nil
}

func (d unitDriver) Diff(ctx context.Context, u plan.Unit) (plan.Diff, error) {
	want, err := d.wanted(u)
	if err != nil {
		return nil, err
	}
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	d.h.diffs++
	if d.h.units[u.Unit] == want {
		return nil, nil
	}
	if how := d.h.differs[u.Unit]; how != nil {
		return how, nil
	}
	return plan.Diff{"files differ"}, nil
}

func (d unitDriver) Apply(ctx context.Context, u plan.Unit, at plan.Epoch) error {
	want, err := d.wanted(u)
	if err != nil {
		return err
	}
	proving, err := d.apply(u, want)
	time.Sleep(proving)
	return err
}

func (d unitDriver) apply(u plan.Unit, want string) (proving time.Duration, err error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	d.h.event("apply %s", u.Unit)
	if err := d.h.fail[u.ID()]; err != nil {
		return 0, err
	}
	d.h.units[u.Unit] = want
	delete(d.h.differs, u.Unit)
	if d.h.applied != nil {
		go d.h.applied(u.Unit)
	}
	return d.h.proving, nil
}

func (d unitDriver) Remove(ctx context.Context, u plan.Unit, at plan.Epoch) error {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	d.h.event("remove %s", u.Unit)
	if err := d.h.fail["remove "+u.Unit]; err != nil {
		return err
	}
	delete(d.h.units, u.Unit)
	return nil
}

type patroniDriver struct{ h *Host }

func (d patroniDriver) Diff(ctx context.Context, p plan.Patroni) (plan.Diff, error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if _, ok := d.h.configs[p.Patroni]; ok {
		return nil, nil
	}
	return plan.Diff{"dynamic configuration differs"}, nil
}

func (d patroniDriver) Apply(ctx context.Context, p plan.Patroni, at plan.Epoch) error {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	d.h.event("config %s at %d", p.Patroni, at)
	if err := d.h.fail[p.ID()]; err != nil {
		return err
	}
	d.h.configs[p.Patroni] = p.Config
	return nil
}

func (d patroniDriver) Remove(ctx context.Context, p plan.Patroni, at plan.Epoch) error { return nil }

// verifier stands for a secret's SCRAM verifier, which takes milliseconds to make.
func verifier(name string, _ []byte) (string, error) { return "verifier of " + name, nil }

type acts struct{ h *Host }

// Restart implements agent.Acts.
func (a acts) Restart(_ context.Context, cluster string, pending bool) (bool, error) {
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	a.h.event("restart %s", cluster)
	return !pending || a.h.pending, a.h.fail["restart"]
}

// Reinit implements agent.Acts.
func (a acts) Reinit(_ context.Context, cluster string) error {
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	a.h.event("reinit %s", cluster)
	return a.h.fail["reinit"]
}
