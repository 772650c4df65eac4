package file

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func newDriver(t *testing.T) (*Driver, plan.Watched) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts.d", "c")
	d := New(Options{AllowPaths: []string{path}, Secret: func(name string) ([]byte, bool) { return []byte("pw"), name == "known" }})
	return d, plan.Watched{File: path, Mode: "0644", Content: "10.0.0.1 c\n"}
}

func differs(t *testing.T, d *Driver, w plan.Watched, want string) {
	t.Helper()
	diff, err := d.Diff(t.Context(), w)
	if want != "" {
		want = w.File + " " + want
	}
	if err != nil || diff.String() != want {
		t.Errorf("diff %q, %v; want %q", diff, err, want)
	}
}

func TestFileIsWrittenRepairedAndRemoved(t *testing.T) {
	d, w := newDriver(t)
	differs(t, d, w, "is missing")
	for _, spoil := range []struct {
		do   func() error
		want string
	}{
		{func() error { return nil }, ""},
		{func() error { return os.WriteFile(w.File, []byte("10.0.0.9 c\n"), 0o644) }, "content differs"},
		{func() error { return os.Chmod(w.File, 0o666) }, "mode differs"},
		{func() error { return os.Remove(w.File) }, "is missing"},
	} {
		if err := d.Apply(t.Context(), w, 7); err != nil {
			t.Fatal(err)
		}
		differs(t, d, w, "")
		if err := spoil.do(); err != nil {
			t.Fatal(err)
		}
		differs(t, d, w, spoil.want)
	}
	if err := errors.Join(d.Apply(t.Context(), w, 7), d.Remove(t.Context(), w, 7), d.Remove(t.Context(), w, 7)); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(w.File)); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestR7AnEarlierLeadershipWritesNothing(t *testing.T) {
	d, w := newDriver(t)
	if err := d.Apply(t.Context(), w, 7); err != nil {
		t.Fatal(err)
	}
	old := w
	old.Content = "10.0.0.2 c\n"
	for _, err := range []error{d.Apply(t.Context(), old, 6), d.Remove(t.Context(), old, 6)} {
		if !errors.Is(err, plan.ErrStale) {
			t.Errorf("error %v", err)
		}
	}
	differs(t, d, w, "")
}

func TestWhatIsRefused(t *testing.T) {
	d, w := newDriver(t)
	for name, c := range map[string]struct {
		change func(*plan.Watched)
		reason observed.Reason
	}{
		"another file":     {func(w *plan.Watched) { w.File += "2" }, observed.Rejected},
		"an open primary":  {func(w *plan.Watched) { w.Content = "{{primary.address}} c\n" }, observed.Rejected},
		"open replicas":    {func(w *plan.Watched) { w.Replicas = []string{"c-replica"} }, observed.Rejected},
		"a placeholder":    {func(w *plan.Watched) { w.Content = "{{leader}}" }, observed.Rejected},
		"a mode":           {func(w *plan.Watched) { w.Mode = "rw" }, observed.Rejected},
		"a secret unknown": {func(w *plan.Watched) { w.Content = plan.SecretRef("other", plan.FormatPgpass) }, observed.WaitingForSecret},
	} {
		bad := w
		c.change(&bad)
		var r *plan.Refusal
		if err := d.Apply(t.Context(), bad, 7); !errors.As(err, &r) || r.Reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(bad.File); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a file was written (%v)", name, err)
		}
	}
	w.Content = plan.SecretRef("known", plan.FormatPgpass)
	if err := d.Apply(t.Context(), w, 7); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(w.File); string(b) != "pw" {
		t.Errorf("content %q", b)
	}
}
