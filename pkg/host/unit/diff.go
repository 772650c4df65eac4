package unit

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Diff says what is not as u wants it.
func (d *Driver) Diff(ctx context.Context, u plan.Unit) (plan.Diff, error) {
	prog, err := d.allowed(u)
	if err != nil {
		return nil, err
	}
	leave, err := d.enter(ctx, u.Unit)
	if err != nil {
		return nil, err
	}
	defer leave()
	rec, err := d.journal.load(u.Unit)
	if err != nil {
		return nil, err
	}
	w, err := d.resolve(u)
	t := &task{Driver: d, prog: prog, rec: rec, want: w}
	if errors.Is(err, errNoSecret) && rec.Loaded != nil && sameSource(rec.Loaded.Unit, u) {
		t.want.hash, t.want.files = rec.Loaded.Hash, rec.Loaded.Files
	} else if err != nil {
		return nil, w.clean(err)
	}
	return t.diff(ctx)
}

func (t *task) diff(ctx context.Context) (plan.Diff, error) {
	var out plan.Diff
	rec := t.rec
	switch {
	case rec.Phase != settled:
		out = append(out, "a change was interrupted and is to be finished")
	case rec.Repair:
		out = append(out, t.rec.Unit+" may have read content that is not there any more")
	case rec.Loaded != nil && rec.Loaded.Hash == t.want.hash:
	case rec.Refused.stands(t.want.hash, t.version(), time.Now()):
		out = append(out, "this configuration was refused")
	case rec.Loaded != nil && rec.Loaded.Outside != t.want.outside && sameSource(rec.Loaded.Unit, t.want.unit):
		out = append(out, "a file that it names has other content")
	default:
		out = append(out, "this configuration was never loaded")
	}
	for _, f := range t.want.files {
		d, err := t.fs.Compare(f)
		if err != nil {
			return nil, err
		}
		if d.Any() {
			out = append(out, f.Path+" "+d.String())
		}
	}
	st, err := t.opts.Systemd.Brief(ctx, rec.Unit)
	if err != nil {
		return nil, err
	}
	if !st.Active() {
		out = append(out, fmt.Sprintf("%s is %s", rec.Unit, stateWord(st.ActiveState)))
		if !t.prog.Restart() && rec.Loaded != nil {
			return out, nil // disabled by whoever stopped it, perhaps, and left so
		}
	}
	switch {
	case st.Masked():
		out = append(out, rec.Unit+" is masked")
	case !st.Enabled():
		out = append(out, rec.Unit+" is disabled")
	}
	return out, nil
}

func stateWord(active string) string {
	if active == "inactive" || active == "" {
		return "stopped"
	}
	return active
}

func sameRoutes(a, b plan.Unit) bool { return reflect.DeepEqual(a.Routes, b.Routes) }
