package unit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/configs"
	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// quick is a world in which nothing has to survive for long.
func quick(t *testing.T) *world {
	w := newWorld(t)
	w.survive = 1
	return w
}

func TestApplyIsQuietWhenItIsSo(t *testing.T) {
	w := quick(t)
	d := w.driver()
	if diff, err := d.Diff(t.Context(), w.unit("good")); err != nil || diff.Empty() {
		t.Errorf("before: %v, %v", diff, err)
	}
	w.mustApply(d, "good")
	want := []string{"install haproxy@.service", "enable " + unitUnderTest, "start " + unitUnderTest}
	if got := w.systemd.Acts(); !cmp.Equal(got, want) {
		t.Errorf("first: %v", got)
	}
	if got := w.questions(); got != "validate compose prove" {
		t.Errorf("first: %s", got)
	}
	w.mustApply(d, "better")
	if got := w.systemd.Acts(); len(got) != 0 {
		t.Errorf("an update needs nothing of systemd: %v", got)
	}
	if got := w.questions(); got != "validate compose reload prove" {
		t.Errorf("update: %s", got)
	}
	w.mustApply(d, "better")
	w.mustApply(w.driver(), "better") // and a restarted agent
	if got := append(w.systemd.Acts(), w.questions()); !cmp.Equal(got, []string{""}) {
		t.Errorf("nothing to do, and done: %v", got)
	}
	if diff, err := d.Diff(t.Context(), w.unit("better")); err != nil || !diff.Empty() {
		t.Errorf("after: %v, %v", diff, err)
	}
}

// R9 for units: each drift is named, repaired, and reloads only when content differed.
func TestDrift(t *testing.T) {
	for name, c := range map[string]struct {
		do       func(w *world) error
		diff     string
		asked    string
		patroni  bool
		leftDown bool
	}{
		"content":  {do: func(w *world) error { return os.WriteFile(w.file(), []byte("by hand"), 0o640) }, diff: "content differs", asked: "compose reload prove"},
		"missing":  {do: func(w *world) error { return os.Remove(w.file()) }, diff: "is missing", asked: "compose reload prove"},
		"mode":     {do: func(w *world) error { return os.Chmod(w.file(), 0o666) }, diff: "mode differs"},
		"owner":    {do: func(w *world) error { return os.Chown(w.file(), 7, 7) }, diff: "owner differs"},
		"disabled": {do: func(w *world) error { return w.systemd.Disable(w.t.Context(), unitUnderTest) }, diff: "is disabled"},
		"masked":   {do: func(w *world) error { return w.systemd.Mask(w.t.Context(), unitUnderTest) }, diff: "is masked"},
		"stopped":  {do: func(w *world) error { return w.systemd.Stop(w.t.Context(), unitUnderTest) }, diff: "is stopped", asked: "compose prove"},
		"failed": {do: func(w *world) error {
			w.systemd.Die(unitUnderTest, false, "")
			w.setRunning("")
			return nil
		}, diff: "is failed", asked: "compose prove"},
		"patroni's content": {do: func(w *world) error { return os.WriteFile(w.file(), nil, 0o640) }, diff: "content differs", asked: "compose reload prove", patroni: true},
		"patroni disabled":  {do: func(w *world) error { return w.systemd.Disable(w.t.Context(), unitUnderTest) }, diff: "is disabled", patroni: true},
		"patroni stopped":   {do: func(w *world) error { return w.systemd.Stop(w.t.Context(), unitUnderTest) }, diff: "is stopped", patroni: true, leftDown: true},
		"patroni stopped and disabled": {do: func(w *world) error {
			return errors.Join(w.systemd.Stop(w.t.Context(), unitUnderTest), w.systemd.Disable(w.t.Context(), unitUnderTest))
		}, diff: "is stopped", patroni: true, leftDown: true},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "owner" && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			w := quick(t)
			w.restart = !c.patroni
			d := w.driver()
			w.mustApply(d, "good")
			if err := c.do(w); err != nil {
				t.Fatal(err)
			}
			w.systemd.Acts()
			w.questions()
			diff, err := d.Diff(t.Context(), w.unit("good"))
			if err != nil || len(diff) != 1 || !strings.Contains(diff[0], c.diff) {
				t.Errorf("diff %q, %v", diff, err)
			}
			err = w.apply(d, "good")
			if c.leftDown {
				if r := refusal(t, err, observed.Stopped); r.Next != "systemctl start haproxy@c" {
					t.Errorf("next command: %q", r.Next)
				}
				refusal(t, w.apply(d, "new content while it is down"), observed.Stopped)
				if acts := w.systemd.Acts(); len(acts) != 0 || w.onDisk() != "good" {
					t.Errorf("acts %v, on disk %q", acts, w.onDisk())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := w.questions(); got != c.asked {
				t.Errorf("asked %q, want %q", got, c.asked)
			}
			w.inForce("good")
		})
	}
}

// A repair that is interrupted between the file and the reload is not forgotten.
func TestInterruptedRepair(t *testing.T) {
	for n, ended := 1, false; !ended; n++ {
		w := quick(t)
		w.mustApply(w.driver(), "good")
		if err := os.WriteFile(w.file(), []byte("by hand"), 0o640); err != nil {
			t.Fatal(err)
		}
		w.setRunning("by hand") // somebody reloaded it too
		ended = killed(w, n, func() { _ = w.apply(w.driver(), "good") })
		w.mustApply(w.driver(), "good")
		w.inForce("good")
	}
}

func TestSecrets(t *testing.T) {
	w := quick(t)
	d := w.driver()
	content := "password: {{secret postgres as yaml}}"
	w.mustApply(d, content)
	w.inForce("password: 's3cr''t'")

	// R11: a program that quotes the line it doesn't like gives nothing away.
	r := refusal(t, w.apply(d, "rejected "+content), observed.Rejected)
	if strings.Contains(r.Message, "s3cr") || !strings.Contains(r.Message, "password: '***'") {
		t.Errorf("message: %s", r.Message)
	}

	// At a boot without etcd no secret is known. What is in force is kept so all the same.
	w.secrets = nil
	d = w.driver()
	if err := os.Remove(w.file()); err != nil {
		t.Fatal(err)
	}
	if diff, err := d.Diff(t.Context(), w.unit(content)); err != nil || len(diff) != 1 {
		t.Errorf("diff %v, %v", diff, err)
	}
	w.mustApply(d, content)
	w.inForce("password: 's3cr''t'")
	refusal(t, w.apply(d, "new "+content), observed.WaitingForSecret)
	w.inForce("password: 's3cr''t'")

	// Everything that holds it is closed to others.
	err := filepath.WalkDir(filepath.Join(w.dir, "state"), func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := e.Info(); err != nil || !e.IsDir() && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNotAllowed(t *testing.T) {
	w := quick(t)
	d := w.driver()
	for name, u := range map[string]plan.Unit{
		"another unit":   {Unit: "ssh.service", Program: "haproxy"},
		"a path as unit": {Unit: "haproxy@../../x.service", Program: "haproxy"},
		"another path":   {Unit: unitUnderTest, Program: "haproxy", Files: []plan.File{{Path: "/etc/shadow", Mode: "0600"}}},
		"a way around":   {Unit: unitUnderTest, Program: "haproxy", Files: []plan.File{{Path: w.dir + "/etc/../x", Mode: "0600"}}},
		"another program": {
			Unit: unitUnderTest, Program: "sh",
		},
	} {
		if err := d.Apply(t.Context(), u, 1); err == nil {
			t.Errorf("%s: applied", name)
		}
		if err := d.Remove(t.Context(), u, 1); err == nil {
			t.Errorf("%s: removed", name)
		}
	}
	if acts := w.systemd.Acts(); len(acts) != 0 {
		t.Errorf("acts: %v", acts)
	}
	if err := d.Apply(t.Context(), plan.Unit{Unit: unitUnderTest, Program: "haproxy", Files: []plan.File{{Path: "/etc/shadow", Mode: "0600"}}}, 1); !errors.Is(err, files.ErrNotAllowed) {
		t.Errorf("error: %v", err)
	}
}

// R7: no act at an epoch lower than one acted at.
func TestR7StaleEpoch(t *testing.T) {
	w := quick(t)
	d := w.driver()
	if err := d.Apply(t.Context(), w.unit("good"), 7); err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(t.Context(), w.unit("older"), 6); !errors.Is(err, plan.ErrStale) {
		t.Errorf("apply: %v", err)
	}
	if err := d.Remove(t.Context(), w.unit("older"), 6); !errors.Is(err, plan.ErrStale) {
		t.Errorf("remove: %v", err)
	}
	w.inForce("good")
}

func TestRemove(t *testing.T) {
	w := quick(t)
	d := w.driver()
	if err := files.AtomicWrite(w.file(), []byte("the administrator's"), 0o600, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), w.unit("good"), 1); err != nil || len(w.systemd.Acts()) != 0 {
		t.Fatalf("removing what was never applied: %v", err)
	}
	w.mustApply(d, "good")
	w.mustApply(d, "better")
	w.inForce("better")
	for range 2 {
		if err := d.Remove(t.Context(), w.unit("better"), 1); err != nil {
			t.Fatal(err)
		}
		if st, _ := w.systemd.Status(t.Context(), unitUnderTest); st.Active() || st.Enabled() {
			t.Errorf("unit: %+v", st)
		}
		if w.onDisk() != "the administrator's" {
			t.Errorf("on disk: %q", w.onDisk())
		}
		if _, err := os.Stat(w.file() + ".second"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("second file: %v", err)
		}
	}
}

// TestRemoveAdopted: what is ours goes, the program is told and runs on.
func TestRemoveAdopted(t *testing.T) {
	w := quick(t)
	d := w.driver()
	if err := files.AtomicWrite(w.file(), []byte("the administrator's"), 0o600, ""); err != nil {
		t.Fatal(err)
	}
	u := w.unit("good")
	u.Adopted = true
	if err := d.Apply(t.Context(), u, 1); err != nil {
		t.Fatal(err)
	}
	w.questions()
	w.systemd.Acts()
	for i, asked := range []string{"reload", ""} {
		if err := d.Remove(t.Context(), w.unit("good"), 1); err != nil {
			t.Fatal(err)
		}
		if st, _ := w.systemd.Status(t.Context(), unitUnderTest); !st.Active() || !st.Enabled() {
			t.Errorf("time %d: unit: %+v", i, st)
		}
		if w.onDisk() != "the administrator's" {
			t.Errorf("time %d: on disk: %q", i, w.onDisk())
		}
		if got := w.questions(); got != asked {
			t.Errorf("time %d: the program was asked %q, expected %q", i, got, asked)
		}
	}
}

// A file that the unit no longer has goes with the change, and comes back with it.
func TestDroppedFile(t *testing.T) {
	w := quick(t)
	d := w.driver()
	w.mustApply(d, "good")
	second := w.file() + ".second"
	u := w.unit("reload-refused")
	u.Files = u.Files[:1]
	refusal(t, d.Apply(t.Context(), u, 1), observed.RolledBack)
	if _, err := os.Stat(second); err != nil {
		t.Errorf("after rolling back: %v", err)
	}
	u.Files[0].Content = "better"
	if err := d.Apply(t.Context(), u, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(second); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the change: %v", err)
	}
}

func TestVendorTemplateWins(t *testing.T) {
	for _, vendor := range []bool{true, false} {
		w := quick(t)
		if vendor {
			w.systemd.AddTemplate("haproxy@.service")
		}
		d := w.driver()
		d.opts.Templates = map[string]configs.Template{"haproxy@.service": {Content: []byte("ours"), Vendor: true}}
		w.mustApply(d, "good")
		if installed := strings.Contains(strings.Join(w.systemd.Acts(), " "), "install"); installed == vendor {
			t.Errorf("the distribution has one: %v; ours installed: %v", vendor, installed)
		}
	}
}

// Going back to the old routes must not let a server start up that nobody said
// is primary (R3).
func TestOldRoutesAreComposedFromPresentTargets(t *testing.T) {
	server := func(names ...string) (out []plan.RouteServer) {
		for _, n := range names {
			out = append(out, plan.RouteServer{Name: n})
		}
		return out
	}
	old := plan.Unit{Routes: map[string]plan.Route{
		"primary": {Role: plan.RoutePrimary, Servers: server("a", "gone")},
		"renamed": {Role: plan.RoutePrimary, Servers: server("a")},
		"replica": {Role: plan.RouteReplica, Servers: server("a", "gone")},
	}}
	now := plan.Unit{
		Routes: map[string]plan.Route{
			"primary": {Role: plan.RoutePrimary, Servers: server("a", "b")},
			"renamed": {Role: plan.RouteAny, Servers: server("a")},
			"replica": {Role: plan.RouteReplica, Servers: server("a", "b")},
		},
		Targets: plan.Targets{
			"primary": {"a": {Held: plan.Up, Start: plan.Up}},
			"renamed": {"a": {Start: plan.Up}},
			"replica": {"a": {Held: plan.Down, Start: plan.Down}},
		},
	}
	task := &task{rec: &record{Loaded: &loaded{Unit: old}}, want: want{unit: now}}
	wanted := plan.Targets{
		"primary": {"a": {Held: plan.Up, Start: plan.Up}, "gone": {Start: plan.Down}},
		"renamed": {"a": {Start: plan.Down}},
		"replica": {"a": {Held: plan.Down, Start: plan.Down}, "gone": {Start: plan.Up}},
	}
	if d := cmp.Diff(wanted, task.oldUnit().Targets); d != "" {
		t.Error(d)
	}
}

// A damaged journal is not guessed at.
func TestDamagedJournal(t *testing.T) {
	w := quick(t)
	d := w.driver()
	w.mustApply(d, "good")
	path := filepath.Join(w.dir, "state", "units", unitUnderTest+".json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.apply(d, "better"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error: %v", err)
	}
	w.inForce("good")
}
