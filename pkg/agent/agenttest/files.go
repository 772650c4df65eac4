package agenttest

import (
	"context"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// File is what a file on the host says; empty: there is none.
func (h *Host) File(path string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.files[path]
}

// SetFile changes a file by hand.
func (h *Host) SetFile(path, content string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[path] = content
}

// fileDriver writes into memory.
type fileDriver struct{ h *Host }

func (d fileDriver) Diff(_ context.Context, w plan.Watched) (plan.Diff, error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if d.h.files[w.File] != w.Content {
		return plan.Diff{"content differs"}, nil
	}
	return nil, nil
}

func (d fileDriver) Apply(_ context.Context, w plan.Watched, _ plan.Epoch) error {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	d.h.files[w.File] = w.Content
	d.h.event("write %s", w.File)
	return d.h.fail["write "+w.File]
}

func (d fileDriver) Remove(_ context.Context, w plan.Watched, _ plan.Epoch) error {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	delete(d.h.files, w.File)
	d.h.event("remove %s", w.File)
	return d.h.fail["remove "+w.File]
}
