package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// The mirror holds plans in their short form (plan.Shorten). Nearly always that is all
// that a controller reads; where it wants a whole one, as for a removal, which is made
// of the stored plan, it is stopped, the plan is read from etcd, and it is asked again.
// Being pure it never knows.

// unread is what a controller is stopped with that wants whole plans which are not
// there.
type unread struct{ plans []kv.KV }

// Error implements error.
func (u *unread) Error() string { return fmt.Sprintf("%d plans have to be read first", len(u.plans)) }

// Get implements kv.Snapshot.
func (d *declared) Get(key string) (kv.KV, bool) {
	e, ok := d.GetShort(key)
	if !ok {
		return e, false
	}
	return d.entire([]kv.KV{e})[0], true
}

// Range implements kv.Snapshot. A prefix that covers more than what was declared
// returns what was declared; one that covers nothing of it is refused.
func (d *declared) Range(prefix string) []kv.KV { return d.entire(d.RangeShort(prefix)) }

// entire replaces short forms in a list of its own.
func (d *declared) entire(list []kv.KV) []kv.KV {
	var lacking []kv.KV
	for i, e := range list {
		if !d.isShort(e) {
			continue
		}
		whole, ok := d.whole[e.Key]
		if !ok {
			lacking = append(lacking, e)
		}
		list[i] = whole
	}
	if len(lacking) > 0 {
		panic(&unread{lacking})
	}
	return list
}

func (d *declared) isShort(e kv.KV) bool {
	if !plan.IsShort(e.Value) {
		return false
	}
	for _, r := range d.readings {
		if _, ok := r.tail(e.Key); ok && r.name == keys.Plan {
			return true
		}
	}
	return false
}

// ask calls the controller, as often as it wants to see more plans. The seat is given up
// after the first time: the others are rare, and seats are held by workers that wait for
// a key, so one that stands in the middle of its own might wait for ever.
func (t *term) ask(ctx context.Context, c *controller, cluster string, w world, at *seat) (controllers.Result, error) {
	var whole map[string]kv.KV
	for {
		res, err := safely(c, t.input(c, cluster, w, whole))
		at.leave()
		var lacks *unread
		if !errors.As(err, &lacks) {
			return res, err
		}
		if whole == nil {
			whole = map[string]kv.KV{}
		}
		read, err := t.read(ctx, lacks.plans)
		if err != nil {
			return res, err
		}
		maps.Copy(whole, read)
	}
}

// read reads plans as they are in the mirror. One that is another one in etcd is a
// conflict: what would be planned from it is out of date, and its event on its way.
func (t *term) read(ctx context.Context, plans []kv.KV) (map[string]kv.KV, error) {
	out := map[string]kv.KV{}
	for _, held := range plans {
		e, ok, err := t.e.o.Client.Get(ctx, held.Key)
		switch {
		case err != nil:
			return nil, fmt.Errorf("read a plan that is to be seen whole: %w", err)
		case !ok || e.ModRevision != held.ModRevision || !plan.Same(held.Value, e.Value):
			return nil, fmt.Errorf("read %s as of revision %d: %w", held.Key, held.ModRevision, store.ErrConflict)
		}
		t.e.metrics.whole.Inc()
		out[held.Key] = e
	}
	return out, nil
}
