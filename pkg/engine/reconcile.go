package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// The results, as pgctrl_engine_reconcile_total names them.
const (
	resultWritten    = "written"
	resultUnchanged  = "unchanged"
	resultWaiting    = "waiting" // for our own last write to come back
	resultTooLarge   = "too_large"
	resultConflict   = "conflict"
	resultUndeclared = "undeclared"
	resultPanic      = "panic"
	resultError      = "error"
)

var results = []string{
	resultWritten, resultUnchanged, resultWaiting, resultTooLarge, resultConflict, resultUndeclared, resultPanic, resultError,
}

// MaxPlan is the size of a plan that is written at most (DESIGN section 4).
const MaxPlan = 512 << 10

// Errors of a controller's answer.
var (
	ErrUndeclaredOutput = errors.New("output was not declared")
	ErrOutput           = errors.New("output can't be")
)

// Panic is a controller's panic. It concerns one key; no other notices.
type Panic struct {
	Value any
	Stack []byte
}

// Error implements error.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// outcome is what came of one step.
type outcome struct {
	result     string
	wrote      int
	revision   int64 // of the view that was planned from
	after      time.Duration
	conditions []observed.Condition
}

// reconcile plans one key and writes the difference.
func (t *term) reconcile(ctx context.Context, k Key, at *seat) (outcome, error) {
	c := t.e.byName[k.Controller]
	if t.behind(k) {
		return outcome{result: resultWaiting}, nil
	}
	w := t.e.world()
	out := outcome{revision: w.bulk.Revision()}
	res, err := t.ask(ctx, c, k.Cluster, w, at)
	if err != nil {
		out.result = resultOf(err)
		return out, err
	}
	writes, tooLarge, err := t.difference(ctx, c, k, w, res.Outputs)
	if err != nil {
		out.result = resultError
		return out, err
	}
	out.after, out.conditions = res.After, append(res.Conditions, tooLarge...)
	if out.wrote, err = t.commit(ctx, k, writes); err != nil {
		out.result = resultOf(err)
		return out, err
	}
	switch {
	case len(tooLarge) > 0:
		out.result = resultTooLarge
	case out.wrote > 0:
		out.result = resultWritten
	default:
		out.result = resultUnchanged
	}
	return out, nil
}

// safely calls a controller and turns its panic into an error.
func safely(c *controller, in controllers.Input) (res controllers.Result, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *UndeclaredRead:
			err = r
		case *unread:
			err = r
		default:
			err = &Panic{Value: r, Stack: debug.Stack()}
		}
	}()
	return c.Plan(in)
}

func resultOf(err error) string {
	var undeclared *UndeclaredRead
	var panicked *Panic
	switch {
	case errors.As(err, &undeclared):
		return resultUndeclared
	case errors.As(err, &panicked):
		return resultPanic
	case errors.Is(err, store.ErrConflict):
		return resultConflict
	}
	return resultError
}

// difference is what of the outputs is not so yet. An answer with one wrong output
// is refused as a whole: it comes from a faulty program.
func (t *term) difference(ctx context.Context, c *controller, k Key, w world, outputs []controllers.Output) ([]write, []observed.Condition, error) {
	var writes []write
	var tooLarge []observed.Condition
	asked := map[string]bool{}
	for _, o := range outputs {
		f, err := declaredOutput(c, k, o)
		if err != nil {
			return nil, nil, err
		}
		if asked[o.Key] {
			return nil, nil, fmt.Errorf("%w: %s is given twice", ErrOutput, o.Key)
		}
		asked[o.Key] = true
		now, exists := w.of(f).Get(o.Key)
		switch {
		case o.Mode == controllers.Delete:
			if exists {
				writes = append(writes, write{f.name, o.Key, nil, now.ModRevision})
			}
		case o.Mode == controllers.Keep || exists && (o.Mode != controllers.Write || same(f, now.Value, o.Value)):
			t.e.metrics.skipped.Inc()
		case f.name == keys.Plan && len(o.Value) > MaxPlan:
			tooLarge = append(tooLarge, planTooLarge(o))
		case o.Mode == controllers.Mint:
			value, err := t.mint(ctx, c, k, o)
			if err != nil {
				return nil, nil, err
			}
			if value != nil {
				writes = append(writes, write{f.name, o.Key, value, 0})
			}
		default:
			writes = append(writes, write{f.name, o.Key, append([]byte{}, o.Value...), now.ModRevision})
		}
	}
	return writes, tooLarge, nil
}

// same compares a value with what the mirror holds of one, exactly.
func same(f family, held, value []byte) bool {
	if f.name == keys.Plan {
		return plan.Same(held, value)
	}
	return bytes.Equal(held, value)
}

// declaredOutput finds the family of an output that the controller may write for
// the cluster it was asked about.
func declaredOutput(c *controller, k Key, o controllers.Output) (family, error) {
	for _, r := range c.writes {
		tail, ok := r.tail(o.Key)
		if !ok || !r.admits(tail, k.Cluster) {
			continue
		}
		if cluster := r.clusterIn(tail); r.cluster >= 0 && cluster != k.Cluster {
			// Two workers could write it, each for another cluster.
			return family{}, fmt.Errorf("%w: %s belongs to cluster %s, not %s", ErrUndeclaredOutput, o.Key, cluster, k.Cluster)
		}
		if (r.name == keys.Secrets || r.name == keys.Authorities) && o.Mode == controllers.Write {
			return family{}, fmt.Errorf("%w: %s: a secret is minted or written once, for nobody here can see whether it differs", ErrOutput, o.Key)
		}
		return r.family, nil
	}
	return family{}, fmt.Errorf("%w: %s by controller %s for cluster %s", ErrUndeclaredOutput, o.Key, c.Name(), k.Cluster)
}

func planTooLarge(o controllers.Output) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.PlanTooLarge, Key: o.Key,
		Message: fmt.Sprintf("the plan has %d bytes, at most %d are written; the last good plan stays", len(o.Value), MaxPlan),
	}
}

// commit writes what differs, in as few parts as etcd's limits allow.
func (t *term) commit(ctx context.Context, k Key, writes []write) (wrote int, err error) {
	for len(writes) > 0 {
		n, size := 0, 0
		for _, w := range writes {
			if n > 0 && size+len(w.value) > maxBatch || n == store.MaxOps-1 { // one guard is the election's
				break
			}
			n, size = n+1, size+len(w.key)+len(w.value)
		}
		rev, err := t.committer.commit(ctx, writes[:n])
		if err != nil {
			return wrote, err
		}
		t.wrote(k, writes[:n], rev)
		writes, wrote = writes[n:], wrote+n
	}
	return wrote, nil
}
