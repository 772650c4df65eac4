package hookcmd_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/pkg/host/hookcmd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func order(args ...string) hookcmd.Order {
	return hookcmd.Order{
		Cluster: "c", Hook: "page", Program: "page", Arguments: args, Event: []byte(`{"kind":"leader.changed"}`),
		EventID: "c/42-0", Kind: "leader.changed", Timeout: 30 * time.Second,
	}
}

// run runs a script as the program of a hook.
func (f folder) run(ctx context.Context, script string, o hookcmd.Order, log *bytes.Buffer) (hookcmd.Result, error) {
	f.t.Helper()
	f.script("page", script)
	p, err := hookcmd.Open(f.top, f.dir, "page")
	f.do(err)
	defer p.Close()
	if log == nil {
		log = &bytes.Buffer{}
	}
	return p.Run(ctx, "pg1", o, log)
}

func TestProgramSeesWhatItIsFor(t *testing.T) {
	f := newFolder(t)
	t.Setenv("PGAGENT_SECRET", "nobody's")
	log := &bytes.Buffer{}
	r, err := f.run(t.Context(), `#!/bin/sh
cat; echo
for a in "$@"; do echo "[$a]"; done
pwd
env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= | sort
echo and >&2
exit 3
`, order("a b", "$(id)", "", "*"), log)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"kind":"leader.changed"}
[a b]
[$(id)]
[]
[*]
/
LANG=C.UTF-8
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PGCTRL_CAUSE=c/42-0
PGCTRL_CLUSTER=c
PGCTRL_EVENT_ID=c/42-0
PGCTRL_EVENT_KIND=leader.changed
PGCTRL_HOOK=page
PGCTRL_NODE=pg1
PGCTRL_PROGRAM=` + filepath.Join(f.dir, "page") + `
and`
	if d := cmp.Diff(want, r.Output); d != "" {
		t.Error(d)
	}
	if r.Exit != 3 || r.Signal != "" || r.TimedOut || r.Took <= 0 {
		t.Errorf("%+v", r)
	}
	if log.String() != want+"\n" {
		t.Errorf("the journal got %q", log)
	}
}

// TestProgramThatIsNoScript: a file for the processor, which reads nothing of what it is given.
func TestProgramThatIsNoScript(t *testing.T) {
	f := newFolder(t)
	b, err := os.ReadFile("/bin/true")
	f.do(err)
	o := order()
	o.Event = append(append([]byte(`"`), bytes.Repeat([]byte("x"), 200<<10)...), '"')
	if r, err := f.run(t.Context(), string(b), o, nil); err != nil || r.Exit != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	f := newFolder(t)
	log := &bytes.Buffer{}
	r, err := f.run(t.Context(), `#!/bin/sh
printf 'x\033[31m\377\000y'
i=0; while [ $i -lt 64 ]; do printf '%16384s' ä; i=$((i+1)); done
`, order(), log)
	if err != nil || r.Exit != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if n := log.Len(); n < 1<<20 {
		t.Errorf("the journal got %d bytes", n)
	}
	if len(r.Output) > hookcmd.OutputKept+8 || !utf8.ValidString(r.Output) || !strings.HasPrefix(r.Output, "x[31m\uFFFDy ") || !strings.HasSuffix(r.Output, "…") {
		t.Errorf("%d bytes: %.40q", len(r.Output), r.Output)
	}
}

// TestTimeoutEndsChildren: also one that heeds no signal, and whatever its parent does.
func TestTimeoutEndsChildren(t *testing.T) {
	f := newFolder(t)
	o := order()
	o.Timeout = 300 * time.Millisecond
	began := time.Now()
	r, err := f.run(t.Context(), `#!/bin/sh
sh -c 'trap "" TERM; echo child $$; sleep 1000' &
trap 'echo told; exit 0' TERM
wait
`, o, nil)
	if err != nil || !r.TimedOut {
		t.Fatalf("%+v, %v", r, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if !strings.Contains(r.Output, "told") {
		t.Errorf("it was not told to end: %q", r.Output)
	}
	dead(t, r.Output)
}

// TestWhatItLeavesBehindEnds: a program that ends well takes its children along, and does not hold up
// its answer with them.
func TestWhatItLeavesBehindEnds(t *testing.T) {
	f := newFolder(t)
	began := time.Now()
	r, err := f.run(t.Context(), "#!/bin/sh\nsleep 1000 &\necho child $!\n", order(), nil)
	if err != nil || r.Exit != 0 || r.TimedOut {
		t.Fatalf("%+v, %v", r, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	dead(t, r.Output)
}

// dead waits until the process whose number is said has ended; it may wait for its parent.
func dead(t *testing.T, said string) {
	t.Helper()
	_, after, _ := strings.Cut(said, "child ")
	first, _, _ := strings.Cut(after, "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatalf("no process in %q", said)
	}
	deadline := time.After(5 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		b, err := os.ReadFile("/proc/" + first + "/stat")
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d lives: %s", pid, b)
		}
	}
}

func TestProgramEndsWithContext(t *testing.T) {
	f := newFolder(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the unit is stopped")
	time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	r, err := f.run(ctx, "#!/bin/sh\nsleep 1000\n", order(), nil)
	if !errors.Is(err, why) || r.Signal != "SIGTERM" {
		t.Fatalf("%+v, %v", r, err)
	}
}

// TestSwappedProgramIsNotRun: what runs is what was looked at, and not what has its name by then.
func TestSwappedProgramIsNotRun(t *testing.T) {
	f := newFolder(t)
	page := f.script("page", "#!/bin/sh\necho the one\n")
	p, err := hookcmd.Open(f.top, f.dir, "page")
	f.do(err)
	defer p.Close()
	f.do(os.WriteFile(page+".new", []byte("#!/bin/sh\necho another\n"), 0o777))
	f.do(os.Rename(page+".new", page))
	r, err := p.Run(t.Context(), "pg1", order(), nil)
	if err != nil || r.Output != "the one" {
		t.Fatalf("%+v, %v", r, err)
	}
	f.do(os.Remove(page))
	if r, err = p.Run(t.Context(), "pg1", order(), nil); err != nil || r.Output != "the one" {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestWhatTheKernelDoesNotRun(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"no first line":  {"echo hello\n", "neither a program for this machine nor a script"},
		"no interpreter": {"#!/no/such/shell\n", "needs an interpreter that is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newFolder(t).run(t.Context(), c.script, order(), nil)
			no, is := errors.AsType[*plan.Refusal](err)
			if !is || no.Reason != observed.HookRefused || !strings.Contains(no.Message, c.want) || !strings.HasPrefix(no.Next, "head -1 /") {
				t.Errorf("got %v", err)
			}
		})
	}
}
