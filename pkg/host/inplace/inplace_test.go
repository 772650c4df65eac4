package inplace

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/host/systemd/systemdtest"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// units is a systemd with a member's Patroni.
type units struct{ systemdtest.Fake }

// up reports whether it runs, off that it does not come with the next boot.
func (u *units) up() bool  { return u.state().Active() }
func (u *units) off() bool { return u.state().UnitFileState != "enabled" }

func (u *units) state() systemd.State {
	s, _ := u.Status(context.Background(), unit("c")) // the fake's never fails
	return s
}

// member has data that can be told apart by what is in them, and runs.
func member(t *testing.T) (*Driver, *units, plan.Restore) {
	t.Helper()
	u := &units{}
	u.AddTemplate("patroni@.service")
	r := plan.Restore{Operation: "restore-1", First: "m1", Data: filepath.Join(t.TempDir(), "c")}
	put(t, r.Data, "former")
	d := &Driver{Systemd: u}
	if err := d.Start(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	u.Acts()
	return d, u, r
}

// TestDriverConforms: the driver and its fake do the same.
func TestDriverConforms(t *testing.T) {
	d, u, r := member(t)
	agenttest.InPlaceConformance(t, agenttest.InPlaceHost{
		InPlace: d, Restore: r, Put: func(dir, data string) { t.Helper(); put(t, dir, data) }, Data: what, Up: u.up,
	})
}

func put(t *testing.T, dir, what string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"PG_VERSION": "15\n", "what": what} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// what is in a data directory; empty: there is none.
func what(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "what"))
	return string(b)
}

func is(t *testing.T, when string, r plan.Restore, data, before, undone string) {
	t.Helper()
	if d, b, u := what(r.Data), what(r.Before()), what(r.Undone()); d != data || b != before || u != undone {
		t.Fatalf("%s: data %q before %q undone %q; want %q %q %q", when, d, b, u, data, before, undone)
	}
}

func TestSwapAndBack(t *testing.T) {
	ctx := t.Context()
	d, u, r := member(t)
	if err := d.Swap(ctx, "c", r); err == nil || len(u.Acts()) > 0 {
		t.Fatalf("nothing was prepared, and it was stopped: %v", err)
	}
	put(t, Data(r), "restored")
	for range 2 { // interrupted after everything was done, it is done again
		if err := d.Swap(ctx, "c", r); err != nil || u.up() || !u.off() {
			t.Fatal(err, u.up(), u.off())
		}
		is(t, "swapped", r, "restored", "former", "")
	}
	for range 2 {
		if err := d.Back(ctx, "c", r); err != nil {
			t.Fatal(err)
		}
		is(t, "put back", r, "former", "", "restored")
	}
	if err := d.Start(ctx, "c"); err != nil || !u.up() || u.off() {
		t.Fatal(err, u.up(), u.off())
	}
	removed, err := d.Discard(r)
	if err != nil || !slices.Equal(removed, []string{r.Prepared(), r.Undone()}) {
		t.Fatalf("removed %v, %v", removed, err)
	}
	is(t, "discarded", r, "former", "", "")
}

// TestInterrupted: killed between any two of its renames, an act is finished by the next try,
// and can be undone from wherever it was.
func TestInterrupted(t *testing.T) {
	ctx := t.Context()
	half := map[string]func(t *testing.T, r plan.Restore){
		"before the first": func(*testing.T, plan.Restore) {},
		"between":          func(t *testing.T, r plan.Restore) { rename(t, r.Data, r.Before()) },
		"after the second": func(t *testing.T, r plan.Restore) { rename(t, r.Data, r.Before()); rename(t, Data(r), r.Data) },
	}
	for when, interrupted := range half {
		t.Run(when, func(t *testing.T) {
			d, _, r := member(t)
			put(t, Data(r), "restored")
			interrupted(t, r)
			if err := d.Swap(ctx, "c", r); err != nil {
				t.Fatal(err)
			}
			is(t, "swapped", r, "restored", "former", "")
		})
		t.Run(when+", undone", func(t *testing.T) {
			d, _, r := member(t)
			put(t, Data(r), "restored")
			interrupted(t, r)
			if err := d.Back(ctx, "c", r); err != nil {
				t.Fatal(err)
			}
			if what(r.Data) != "former" {
				t.Fatalf("data %q", what(r.Data))
			}
		})
	}
	t.Run("undoing", func(t *testing.T) {
		d, _, r := member(t)
		put(t, r.Before(), "former")
		put(t, r.Data, "restored")
		rename(t, r.Data, r.Undone())
		if err := d.Back(ctx, "c", r); err != nil {
			t.Fatal(err)
		}
		is(t, "put back", r, "former", "", "restored")
	})
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestAsideKeepsEverything: a host that was booted copied the data anew; neither goes.
func TestAsideKeepsEverything(t *testing.T) {
	ctx := t.Context()
	d, u, r := member(t)
	where, err := d.Aside(ctx, "c", r)
	if err != nil || where != r.Before() || u.up() {
		t.Fatal(where, err, u.up())
	}
	if where, err = d.Aside(ctx, "c", r); err != nil || where != r.Before() {
		t.Fatalf("again: %s %v", where, err)
	}
	put(t, r.Data, "copied by a boot")
	if where, err = d.Aside(ctx, "c", r); err != nil || where != r.Before()+"-2" {
		t.Fatalf("after a boot: %s %v", where, err)
	}
	is(t, "aside", r, "", "former", "")
	if err := d.Back(ctx, "c", r); err != nil {
		t.Fatal(err)
	}
	is(t, "put back", r, "former", "", "")
	put(t, r.Data+".before-restore-11", "another restore's")
	put(t, r.Before()+"-x", "somebody's")
	removed, err := d.Discard(r)
	if err != nil || !slices.Equal(removed, []string{r.Before() + "-2"}) {
		t.Fatalf("removed %v %v", removed, err)
	}
}

// TestNothingUnderARunningServer: data in which a PostgreSQL runs are not renamed, nor
// deleted.
func TestNothingUnderARunningServer(t *testing.T) {
	ctx := t.Context()
	d, _, r := member(t)
	put(t, Data(r), "restored")
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/self/comm", []byte("postgres"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile("/proc/self/comm", comm, 0)
	pid := filepath.Join(r.Data, "postmaster.pid")
	if err := os.WriteFile(pid, []byte(strings.TrimSpace(selfPID(t))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if _, ok := errors.AsType[*plan.Refusal](err); !ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	short, cancel := context.WithTimeoutCause(ctx, 10*time.Millisecond, d.stillRuns(r))
	defer cancel()
	refused("swap", d.Swap(short, "c", r))
	_, err = d.Aside(short, "c", r)
	refused("aside", err)
	is(t, "refused", r, "former", "", "")
	rename(t, r.Data, r.Undone())
	_, err = d.Discard(r)
	refused("discard", err)
	if what(r.Undone()) != "former" {
		t.Error("deleted under a running server")
	}
}

// stillRuns is what a stop that was not waited for says.
func (d *Driver) stillRuns(r plan.Restore) error { return postgres.StandsStill(r.Data) }

// TestWhatIsInTheWay: a folder that is none of PostgreSQL's blocks nothing, and is kept.
func TestWhatIsInTheWay(t *testing.T) {
	ctx := t.Context()
	d, _, r := member(t)
	put(t, Data(r), "restored")
	rename(t, r.Data, r.Before())
	if err := os.MkdirAll(filepath.Join(r.Data, "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Swap(ctx, "c", r); err != nil {
		t.Fatal(err)
	}
	is(t, "swapped", r, "restored", "former", "")
	if err := os.RemoveAll(r.Data); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Discard(r); err == nil || what(r.Before()) != "former" {
		t.Fatalf("the only data were discarded: %v", err)
	}
	if err := os.Mkdir(r.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Back(ctx, "c", r); err != nil {
		t.Fatal(err)
	}
	is(t, "put back", r, "former", "", "")
}

// TestCopiesAreEnded: what goes on copying into the data when Patroni is gone is killed, and
// nothing else.
func TestCopiesAreEnded(t *testing.T) {
	d, _, r := member(t)
	dir := t.TempDir()
	start := func(name string, args ...string) *exec.Cmd {
		program := filepath.Join(dir, name)
		if _, err := os.Stat(program); err != nil {
			if err := os.WriteFile(program, must(os.ReadFile("/bin/sh")), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		c := exec.Command(program, append([]string{"-c", "read forever", "x"}, args...)...)
		if _, err := c.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill(); c.Wait() })
		return c
	}
	copies := start("pg_basebackup", "--pgdata="+r.Data)
	other := start("pg_basebackup", "--pgdata="+r.Data+"-2")
	reads := start("tar", r.Data)
	ended := make(chan error, 1)
	go func() { ended <- copies.Wait() }()
	if _, err := d.Aside(t.Context(), "c", r); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended by itself")
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
	for _, c := range []*exec.Cmd{other, reads} {
		if err := c.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("%v was killed: %v", c.Args, err)
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func selfPID(t *testing.T) string {
	t.Helper()
	pid, err := os.Readlink("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestCanSwap(t *testing.T) {
	d, _, r := member(t)
	if err := d.CanSwap(r); err != nil {
		t.Fatal(err)
	}
	link := r
	link.Data += "-link"
	if err := os.Symlink(r.Data, link.Data); err != nil {
		t.Fatal(err)
	}
	if d.CanSwap(link) == nil {
		t.Error("a link is swapped")
	}
	if d.CanSwap(plan.Restore{Data: "/proc"}) == nil {
		t.Error("a mount point is swapped")
	}
	put(t, Data(plan.Restore{Operation: "restore-0", Data: r.Data}), "left")
	if left := d.Left(r); !slices.Equal(left, []string{r.Data + ".prepared-restore-0"}) {
		t.Errorf("left %v", left)
	}
}
