package patroni

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// DriverOptions says where the local Patroni of a cluster is.
type DriverOptions struct {
	// ConfigPath is Patroni's own file, as in /etc/patroni/pg-test.yml. Address and
	// password are read from it each time, so that a rotated one is the right one.
	ConfigPath string
}

// Driver applies Patroni's dynamic configuration over the local REST API. There is
// one for each cluster of a node; only the leader's agent gets to use it (Resolve).
type Driver struct {
	o DriverOptions

	mu    sync.Mutex
	acted plan.Epoch
}

var _ plan.Driver[plan.Patroni] = (*Driver)(nil)

// NewDriver makes a driver.
func NewDriver(o DriverOptions) *Driver { return &Driver{o: o} }

// Diff compares what is wanted with what Patroni has in etcd.
func (d *Driver) Diff(ctx context.Context, r plan.Patroni) (plan.Diff, error) {
	l, err := d.local(r)
	if err != nil {
		return nil, err
	}
	present, err := l.Client.Config(ctx)
	if err != nil {
		return nil, refuse(err)
	}
	diff, _ := compare(present, r.Config)
	return diff, nil
}

// Apply merges what differs. Values that Patroni or PostgreSQL would not take are
// refused before anything is written, because Patroni stores them and then goes on
// with its old configuration as a whole, saying so only in its log. Nothing is
// restarted: a value that needs it waits (Pending).
func (d *Driver) Apply(ctx context.Context, r plan.Patroni, at plan.Epoch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at < d.acted {
		return fmt.Errorf("apply %s at epoch %d, %d was acted on: %w", r.ID(), at, d.acted, plan.ErrStale)
	}
	d.acted = at
	l, err := d.local(r)
	if err != nil {
		return err
	}
	// Patroni guards its write by the revision it read; somebody else's write in
	// between is 409, and our patch may be another one then.
	for try := 0; ; try++ {
		present, err := l.Client.Config(ctx)
		if err != nil {
			return refuse(err)
		}
		diff, patch := compare(present, r.Config)
		if diff.Empty() {
			return nil
		}
		if err := judge(ctx, l.BinDir, r.Config, merged(present, patch)); err != nil {
			return err
		}
		now, err := l.Client.PatchConfig(ctx, patch)
		if Answered(err, http.StatusConflict) && try < 3 {
			continue
		}
		if err != nil {
			return refuse(err)
		}
		if left, _ := compare(now, r.Config); !left.Empty() {
			return &plan.Refusal{Reason: observed.ApplyFailed, Message: "Patroni answered 200 to PATCH /config and still differs: " + left.String()}
		}
		return nil
	}
}

// Remove does nothing: no key of a dynamic configuration goes because a plan did
// (R6). What is to go is said with null.
func (d *Driver) Remove(context.Context, plan.Patroni, plan.Epoch) error { return nil }

// Pending reports whether PostgreSQL waits for a restart to take a value, which
// only an operation does.
func (d *Driver) Pending(ctx context.Context) (bool, error) {
	l, err := ReadLocal(d.o.ConfigPath)
	if err != nil {
		return false, err
	}
	a, err := l.Client.Status(ctx)
	if err != nil {
		return false, refuse(err)
	}
	return a.PendingRestart, nil
}

func (d *Driver) local(r plan.Patroni) (Local, error) {
	l, err := ReadLocal(d.o.ConfigPath)
	if err != nil {
		return l, err
	}
	if l.Scope != r.Patroni {
		return l, fmt.Errorf("%s is for scope %s, not %s", d.o.ConfigPath, l.Scope, r.Patroni)
	}
	return l, nil
}

// judge asks our rules and PostgreSQL itself.
func judge(ctx context.Context, binDir string, wanted, result map[string]any) error {
	problems := checkDynamic(wanted, result)
	if len(problems) == 0 {
		postgres, _ := result["postgresql"].(map[string]any)
		params, _ := postgres["parameters"].(map[string]any)
		var err error
		if problems, err = checkParameters(ctx, binDir, params); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return &plan.Refusal{Reason: observed.Rejected, Document: "postgres",
			Message: "dynamic configuration: " + strings.Join(problems, "; ")}
	}
	return nil
}

// refuse gives an answer of Patroni's its reason.
func refuse(err error) error {
	var se *StatusError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &se), se.Code == http.StatusServiceUnavailable, se.Code == http.StatusBadGateway:
		return &plan.Refusal{Reason: observed.NotAnswering, Message: "Patroni does not answer: " + err.Error()}
	case se.Code == http.StatusUnauthorized, se.Code == http.StatusForbidden:
		return &plan.Refusal{Reason: observed.ApplyFailed, Message: "Patroni does not accept the password in its own file (it runs with another one): " + err.Error()}
	case se.Code == http.StatusBadRequest:
		return &plan.Refusal{Reason: observed.Rejected, Message: "Patroni refuses it: " + err.Error()}
	}
	return &plan.Refusal{Reason: observed.ApplyFailed, Message: err.Error()}
}
