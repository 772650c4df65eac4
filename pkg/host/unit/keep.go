package unit

import (
	"context"
	"errors"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
)

// keep repairs drift from what is in force (R9): a file's content, mode or owner,
// a unit disabled, masked or stopped. There is nothing to prove or to undo: this
// content has worked.
func (t *task) keep(ctx context.Context) error {
	st, err := t.opts.Systemd.Status(ctx, t.rec.Unit)
	if err != nil {
		return err
	}
	if !st.Active() && !t.prog.Restart() {
		// Whoever stopped it decides about the rest as well; only its files are kept.
		return errors.Join(stopped(t.rec.Unit), t.keepFiles())
	}
	if err := t.keepFiles(); err != nil {
		return err
	}
	if err := t.template(ctx); err != nil {
		return err
	}
	if err := t.enable(ctx, st); err != nil {
		return err
	}
	if err := t.keepProgram(ctx, st); err != nil {
		return err
	}
	inForce := t.rec.Loaded.Hash == t.want.hash
	if !t.rec.Repair && (!inForce || sameRoutes(t.rec.Loaded.Unit, t.want.unit)) {
		return nil
	}
	t.rec.Repair = false
	if inForce {
		t.rec.Loaded.Unit = t.want.unit
	}
	return t.save(settled)
}

// keepFiles writes drifted files again. That the program may have read the drifted
// content is journaled first: afterwards nothing would show it.
func (t *task) keepFiles() error {
	if t.rec.Loaded == nil {
		return nil
	}
	drifted, content := false, false
	for _, f := range t.rec.Loaded.Files {
		d, err := t.fs.Compare(f)
		if err != nil {
			return err
		}
		drifted = drifted || d.Any()
		content = content || d.Content || d.Missing
	}
	if content && !t.rec.Repair {
		t.rec.Repair = true
		if err := t.save(t.rec.Phase); err != nil {
			return err
		}
	}
	if !drifted {
		return nil
	}
	return t.put(t.rec.Loaded.Files)
}

func (t *task) keepProgram(ctx context.Context, st systemd.State) error {
	if st.Active() && !t.rec.Repair {
		return nil
	}
	u := t.oldUnit()
	if t.rec.Loaded.Hash == t.want.hash {
		u = t.want.unit
	}
	if err := t.prog.BeforeStart(ctx, u); err != nil {
		return t.asRefusal(ctx, err)
	}
	if !st.Active() {
		if err := t.opts.Systemd.Start(ctx, t.rec.Unit); err != nil {
			return err
		}
	} else if err := t.prog.Reload(ctx, u); err != nil {
		return t.asRefusal(ctx, err)
	}
	if err := t.prog.Prove(ctx, u); err != nil {
		return t.asRefusal(ctx, err)
	}
	return nil
}

// enable undoes masking and disabling.
func (t *task) enable(ctx context.Context, st systemd.State) error {
	if st.Masked() {
		if err := t.opts.Systemd.Unmask(ctx, t.rec.Unit); err != nil {
			return err
		}
		var err error
		if st, err = t.opts.Systemd.Status(ctx, t.rec.Unit); err != nil {
			return err
		}
	}
	if st.Enabled() {
		return nil
	}
	t.step("before enable")
	return t.opts.Systemd.Enable(ctx, t.rec.Unit)
}

// template installs the unit file that the unit is made from.
func (t *task) template(ctx context.Context) error {
	name := systemd.TemplateOf(t.rec.Unit)
	tpl, ok := t.opts.Templates[name]
	if !ok {
		return nil
	}
	if tpl.Vendor {
		st, err := t.opts.Systemd.Status(ctx, t.rec.Unit)
		if err != nil {
			return err
		}
		if st.Exists() && st.FragmentPath != systemd.DefaultUnitDir+"/"+name {
			return nil
		}
	}
	_, err := t.opts.Systemd.InstallTemplate(ctx, name, tpl.Content)
	return err
}
