package systemd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	godbus "github.com/godbus/dbus/v5"
)

const (
	stressUnit     = "pgctrl-signals@a.service"
	stressTemplate = "pgctrl-signals@.service"
	childVariable  = "PGCTRL_SIGNALS_CHILD"
)

// TestRealSignals runs in the lab as TestRealConforms does. Whatever is done to a
// unit by hand is told, also to somebody who is killed again and again, and right
// after systemd read its files anew. That holds for the bus, which agents use; over
// systemd's private socket, for hosts without one, 12 of 150 came late or not at all,
// and the full compare of every 30 s finds what they would have told.
func TestRealSignals(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		beChild(t)
		return
	}
	if os.Getenv("PGCTRL_REAL_SYSTEMD") == "" {
		t.Skip("PGCTRL_REAL_SYSTEMD is not set")
	}
	m := New(Options{})
	defer m.Close()
	content := "[Service]\nExecStart=/bin/sleep 10000\n[Install]\nWantedBy=multi-user.target\n"
	if _, err := m.InstallTemplate(t.Context(), stressTemplate, []byte(content)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		for _, verb := range []string{"unmask", "stop", "disable"} {
			_ = systemctl(ctx, verb, stressUnit)
		}
		if _, err := m.RemoveTemplate(ctx, stressTemplate, []byte(content)); err != nil {
			t.Error(err)
		}
	})
	if err := systemctl(t.Context(), "enable", "--now", stressUnit); err != nil {
		t.Fatal(err)
	}
	listeners := map[string]*listener{"bus": listen(t, dialSignals), "killed": {told: make(chan time.Time, 1000)}}
	acts := [][]string{{"stop"}, {"start"}, {"mask"}, {"unmask"}, {"disable"}, {"enable"}}
	took := map[string][]time.Duration{}
	n := 150
	if testing.Short() {
		n = 24
	}
	for i := range n {
		if i%3 == 0 {
			listeners["killed"].again(t)
		}
		for range i % 4 { // what comes right after it is heard as well
			if err := systemctl(t.Context(), "daemon-reload"); err != nil {
				t.Fatal(err)
			}
		}
		act := acts[i%len(acts)]
		for _, l := range listeners {
			l.quiet()
		}
		begun := time.Now()
		if err := systemctl(t.Context(), append(act, stressUnit)...); err != nil {
			t.Fatal(err)
		}
		ended := time.Now()
		for name, l := range listeners {
			select {
			case at := <-l.told:
				took[name+" "+act[0]] = append(took[name+" "+act[0]], at.Sub(begun))
			case <-time.After(5 * time.Second):
				t.Errorf("act %d: %v was not told to %s (it took %s)", i, act, name, ended.Sub(begun))
			}
		}
	}
	for what, ds := range took {
		slices.Sort(ds)
		t.Logf("%-24s %d times, told after p50 %s, max %s", what, len(ds), ds[len(ds)/2].Round(time.Millisecond), ds[len(ds)-1].Round(time.Millisecond))
	}
}

func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %v: %w: %s", args, err, out)
	}
	return nil
}

// listener is somebody who watches the unit, in this process or in another.
type listener struct {
	told  chan time.Time
	child *exec.Cmd
}

func listen(t *testing.T, dial func(context.Context) (*godbus.Conn, bool, error)) *listener {
	l := &listener{told: make(chan time.Time, 1000)}
	s := newSignals(nil, dial)
	t.Cleanup(s.Close)
	go s.Watch(t.Context(), stressUnit, func() { l.told <- time.Now() })
	<-l.told // it hears
	return l
}

// quiet drops what was told so far, until nothing came for a while.
func (l *listener) quiet() {
	for {
		select {
		case <-l.told:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

// again kills the process that listens and starts another.
func (l *listener) again(t *testing.T) {
	if l.child != nil {
		_ = l.child.Process.Kill()
		_ = l.child.Wait()
	}
	l.child = exec.Command(os.Args[0], "-test.run", "^TestRealSignals$")
	l.child.Env = append(os.Environ(), childVariable+"=1")
	out, err := l.child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.child.Process.Kill() })
	lines := bufio.NewScanner(io.Reader(out))
	if !lines.Scan() { // subscribed
		t.Fatal("the process that listens ended")
	}
	go func() {
		for lines.Scan() {
			l.told <- time.Now()
		}
	}()
}

// beChild says on standard output what it is told; the first line when it hears.
func beChild(t *testing.T) {
	s := NewSignals(nil)
	defer s.Close()
	s.Watch(t.Context(), stressUnit, func() { fmt.Println("told") })
}
