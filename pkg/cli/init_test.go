package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// pretendHost remembers what init did to it.
type pretendHost struct {
	files  map[string]string
	units  map[string]string
	active map[string]bool
	taken  bool
	fail   error
	did    []string
}

func newPretendHost() *pretendHost {
	return &pretendHost{files: map[string]string{}, units: map[string]string{}, active: map[string]bool{}}
}

func (h *pretendHost) Address() (string, error) { return "10.0.0.1", nil }
func (h *pretendHost) Program() (string, error) { return "/usr/local/bin/pgctrl", nil }
func (h *pretendHost) Taken(int) bool           { return h.taken }
func (h *pretendHost) Active(_ context.Context, unit string) (bool, error) {
	return h.active[unit], nil
}

func (h *pretendHost) Write(path string, content []byte) (bool, error) {
	changed := h.files[path] != string(content)
	h.files[path] = string(content)
	return changed, nil
}

func (h *pretendHost) Install(_ context.Context, unit string, content []byte) (bool, error) {
	changed := h.units[unit] != string(content)
	h.units[unit] = string(content)
	return changed, nil
}

func (h *pretendHost) Run(_ context.Context, unit string, again bool) error {
	word := "start"
	if again {
		word = "restart"
	}
	h.did = append(h.did, word+" "+unit)
	if h.fail == nil {
		h.active[unit] = true
	}
	return h.fail
}

func (h *pretendHost) Asks(_ context.Context, url string) (int, string, error) {
	if !h.active[serverUnit] {
		return 0, "", errors.New("connection refused")
	}
	return 200, "ok\n", nil
}

// initOn runs init with a pretended host and a real etcd behind whatever URL.
func initOn(t *testing.T, h *pretendHost, settings string, args ...string) (code int, out, errs string) {
	t.Helper()
	file := t.TempDir() + "/pgctrl.yaml"
	if settings != "" {
		if _, err := (thisHost{}).Write(file, []byte(settings)); err != nil {
			t.Fatal(err)
		}
	}
	etcd := etcdtest.Start(t)
	var stdout, stderr bytes.Buffer
	code = Run(t.Context(), append([]string{"init", "--config", file}, args...), Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr}, Deps{
		Host: h, Getenv: func(string) string { return "" },
		Connect: func(ctx context.Context, o store.Options) (*store.Client, error) {
			o.Endpoints = etcd.Endpoints()
			return store.Connect(ctx, o)
		},
	})
	// The file is the test's; on a host it has its usual place.
	h.files = map[string]string{"settings": h.files[file]}
	for u, c := range h.units {
		h.units[u] = strings.ReplaceAll(c, " --config "+file, "")
	}
	return code, stdout.String(), strings.ReplaceAll(stderr.String(), file, "pgctrl.yaml")
}

func TestInitSetsUpBoth(t *testing.T) {
	h := newPretendHost()
	// A settings file that nobody has to have written.
	code, out, errs := initOn(t, h, "timeout: 3s\n")
	if code != Done {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if d := cmp.Diff([]string{"restart " + etcdUnit, "restart " + serverUnit}, h.did); d != "" {
		t.Error(d)
	}
	for _, want := range []string{"endpoints: [http://10.0.0.1:2379]\n", "timeout: \"3s\"\n", "etcd:\n  advertise: \"10.0.0.1\"\n"} {
		if !strings.Contains(h.files["settings"], want) {
			t.Errorf("settings lack %q:\n%s", want, h.files["settings"])
		}
	}
	if !strings.Contains(h.units[serverUnit], "ExecStart=/usr/local/bin/pgctrl server run\n") {
		t.Errorf("the unit starts another program:\n%s", h.units[serverUnit])
	}
	if !strings.Contains(out, "pgagent join --endpoints http://10.0.0.1:2379") {
		t.Errorf("no next command:\n%s", out)
	}
}

// TestInitIsIdempotent: a second run restarts nothing.
func TestInitIsIdempotent(t *testing.T) {
	h := newPretendHost()
	file := t.TempDir() + "/pgctrl.yaml"
	etcd := etcdtest.Start(t)
	real := thisHost{}
	run := func() string {
		h.did = nil
		var stdout, stderr bytes.Buffer
		code := Run(t.Context(), []string{"init", "--config", file, "--advertise", "10.0.0.1"}, Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr}, Deps{
			Host: writes{h, real}, Getenv: func(string) string { return "" },
			Connect: func(ctx context.Context, o store.Options) (*store.Client, error) {
				o.Endpoints = etcd.Endpoints()
				return store.Connect(ctx, o)
			},
		})
		if code != Done {
			t.Fatalf("exit code %d: %s", code, stderr.String())
		}
		return strings.Join(h.did, ", ")
	}
	if did := run(); did != "restart "+etcdUnit+", restart "+serverUnit {
		t.Errorf("first run: %s", did)
	}
	if did := run(); did != "start "+etcdUnit+", start "+serverUnit {
		t.Errorf("second run: %s", did)
	}
}

// writes is a pretended host on which files are real.
type writes struct {
	*pretendHost
	real thisHost
}

func (w writes) Write(path string, content []byte) (bool, error) { return w.real.Write(path, content) }

func TestInitWithAnEtcdThatExists(t *testing.T) {
	h := newPretendHost()
	code, _, errs := initOn(t, h, "", "--endpoints", "http://10.0.0.5:2379")
	if code != Done {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if d := cmp.Diff([]string{"restart " + serverUnit}, h.did); d != "" {
		t.Error(d)
	}
	if strings.Contains(h.files["settings"], "etcd:") {
		t.Errorf("settings of an etcd that is not ours:\n%s", h.files["settings"])
	}
	// Again, without the flag: the file says whose etcd it is.
	again := newPretendHost()
	if code, _, errs := initOn(t, again, h.files["settings"]); code != Done || len(again.did) != 1 {
		t.Errorf("exit code %d, did %v: %s", code, again.did, errs)
	}
}

func TestInitRefusesATakenPort(t *testing.T) {
	h := newPretendHost()
	h.taken = true
	h.active["etcd.service"] = true
	code, _, errs := initOn(t, h, "")
	if code != Failed || !strings.Contains(errs, "the distribution's etcd service holds port 2379. Nothing was changed.") ||
		!strings.Contains(errs, "systemctl disable --now etcd") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	h.active["etcd.service"] = false
	if code, _, errs := initOn(t, h, ""); code != Failed || !strings.Contains(errs, "another program listens on port 2379") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if len(h.units) != 0 || len(h.did) != 0 {
		t.Errorf("changed all the same: %v %v", h.units, h.did)
	}
}

func TestInitSaysWhyAUnitFails(t *testing.T) {
	h := newPretendHost()
	h.fail = fmt.Errorf("start it: %w", &systemd.JobError{Op: "start", Unit: etcdUnit, Result: "failed", Tail: "line one\nmkdir: no space left on device"})
	code, _, errs := initOn(t, h, "")
	want := "error: start pgctrl-etcd.service: failed: mkdir: no space left on device\n  next: journalctl -u pgctrl-etcd.service -n 50\n"
	if code != Failed || !strings.HasSuffix(errs, want) {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
