package e2e

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// life is a process of pgBackRest that makes a backup, as it was seen: alive at least from
// the first to the last of its moments. All hosts of the lab have one clock.
type life struct {
	host        string
	pid         int
	first, last time.Time
	args        string
}

func (l life) String() string {
	return fmt.Sprintf("%s pid %d from %s to %s: %s", l.host, l.pid, l.first.Format("15:04:05.000"), l.last.Format("15:04:05.000"), l.args)
}

// backupWatch looks every 100 ms for such processes on all nodes.
type backupWatch struct {
	stop  context.CancelFunc
	done  sync.WaitGroup
	mu    sync.Mutex
	lives map[string]*life
	// looks counts the rounds of each host: a watch that does not look sees nothing.
	looks map[string]int
	// off are hosts that the test switches off meanwhile.
	off map[string]bool
}

// watchLoop prints a moment in nanoseconds, and then a line for each process. The workers of a
// backup say backup:local; what it forks for them has its arguments for a moment, and its
// pid as parent.
const watchLoop = `while :; do date +%s%N; ps -C pgbackrest -o pid=,ppid=,args=; sleep 0.1; done`

func watchBackups(ctx context.Context, t *testing.T) *backupWatch {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	w := &backupWatch{stop: stop, lives: map[string]*life{}, looks: map[string]int{}}
	for _, h := range hosts.Nodes {
		cmd := h.Command(ctx, "sh", "-c", watchLoop)
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		w.done.Go(func() {
			w.read(h, bufio.NewScanner(out))
			_ = cmd.Wait() // killed
		})
	}
	t.Cleanup(func() { w.end() })
	return w
}

func (w *backupWatch) read(h *lab.Host, lines *bufio.Scanner) {
	var at time.Time
	pids := map[int]bool{} // of this round
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 1 {
			n, err := strconv.ParseInt(fields[0], 10, 64)
			if err == nil {
				at, pids = time.Unix(0, n), map[int]bool{}
				w.mu.Lock()
				w.looks[h.Name]++
				w.mu.Unlock()
			}
			continue
		}
		if len(fields) < 3 || !slices.Contains(fields[2:], "backup") {
			continue
		}
		pid, _ := strconv.Atoi(fields[0])
		parent, _ := strconv.Atoi(fields[1])
		if pids[parent] {
			continue
		}
		pids[pid] = true
		w.saw(h.Name, pid, at, strings.Join(fields[2:], " "))
	}
}

func (w *backupWatch) saw(host string, pid int, at time.Time, args string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := fmt.Sprint(host, " ", pid)
	if w.lives[key] == nil {
		w.lives[key] = &life{host: host, pid: pid, first: at, args: args}
	}
	w.lives[key].last = at
}

// seen are the processes so far, the first first.
func (w *backupWatch) seen() (out []life) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lives {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b life) int { return a.first.Compare(b.first) })
	return out
}

// end stops looking, and returns what was seen and how often each host was looked at.
func (w *backupWatch) end() ([]life, map[string]int) {
	w.stop()
	w.done.Wait()
	return w.seen(), w.looks
}

// together are pairs of processes that were alive at one moment.
func together(ls []life) (out []string) {
	for i, a := range ls {
		for _, b := range ls[i+1:] {
			if !b.first.After(a.last) && !a.first.After(b.last) {
				out = append(out, fmt.Sprintf("%s, and %s", a, b))
			}
		}
	}
	return out
}

// neverTwo ends a watch and fails when two backups were made at once, or when it did not look.
func (w *backupWatch) neverTwo(t *testing.T) []life {
	t.Helper()
	ls, looks := w.end()
	for _, l := range ls {
		t.Log(l)
	}
	for _, pair := range together(ls) {
		t.Errorf("two backups at once: %s", pair)
	}
	for _, h := range hosts.Nodes {
		if looks[h.Name] < 10 && !w.off[h.Name] {
			t.Errorf("%s was looked at %d times", h.Name, looks[h.Name])
		}
	}
	return ls
}

// plantBackup has what looks like a backup run on a host from a moment on for a while; hosts
// share the machine's clock.
func plantBackup(ctx context.Context, t *testing.T, h *lab.Host, at time.Time, d time.Duration) {
	t.Helper()
	must[string](t)(h.Exec(ctx, planted+"start", fmt.Sprint(at.UnixNano()), fmt.Sprint(d.Seconds())))
}

const planted = "/run/planted/"

// plantable puts on a host what plantBackup runs.
func plantable(ctx context.Context, t *testing.T, h *lab.Host) {
	t.Helper()
	t.Cleanup(func() { _, _ = h.Exec(context.WithoutCancel(ctx), "rm", "-rf", planted) })
	ok(t, h.WriteFile(ctx, planted+"pgbackrest", 0o755, []byte("#!/bin/sh\nsleep $3\n")))
	ok(t, h.WriteFile(ctx, planted+"start", 0o755, []byte("#!/bin/sh\nwhile [ $(date +%s%N) -lt $1 ]; do sleep 0.01; done\nexec "+planted+"pgbackrest --stanza=planted backup $2\n")))
}

// TestS3SecondBackupIsSeen: the watch sees two backups on two hosts that overlap by two
// seconds, and two on one host, and does not take for that two that come one after the other.
func TestS3SecondBackupIsSeen(t *testing.T) {
	ctx := begin(t)
	noBackupGoesOn(ctx, t)
	a, b := hosts.Nodes[0], hosts.Nodes[1]
	for _, h := range hosts.Nodes {
		plantable(ctx, t, h)
	}
	plant := func(hs ...*lab.Host) []string {
		w := watchBackups(ctx, t)
		var g sync.WaitGroup
		began := time.Now().Add(2 * time.Second) // all are asked for by then
		for i, h := range hs {
			at := began.Add(time.Duration(i) * 4 * time.Second)
			g.Go(func() { plantBackup(ctx, t, h, at, 6*time.Second) }) // neighbours meet for two seconds, and others miss by two
		}
		g.Wait()
		ls, _ := w.end()
		ls = slices.DeleteFunc(ls, func(l life) bool { return !strings.Contains(l.args, "planted") })
		t.Log(ls)
		if len(ls) != len(hs) {
			t.Errorf("%d of %d planted ones were seen", len(ls), len(hs))
		}
		return together(ls)
	}
	if got := plant(a); len(got) != 0 {
		t.Errorf("one alone: %q", got)
	}
	if got := plant(a, b); len(got) != 1 {
		t.Errorf("on two hosts: %q", got)
	}
	if got := plant(a, a); len(got) != 1 {
		t.Errorf("on one host: %q", got)
	}
	if got := plant(a, hosts.Nodes[2], b); len(got) != 2 {
		t.Errorf("three, of which the first and the last do not meet: %q", got)
	}
}
