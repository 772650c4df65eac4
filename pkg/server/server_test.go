package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// start runs a server until the test ends and returns where it answers.
func start(t *testing.T, o Options) (url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	listening := make(chan net.Addr, 1)
	done := make(chan error, 1)
	o.Listen, o.ID, o.Listening = "127.0.0.1:0", "infra1", func(a net.Addr) { listening <- a }
	go func() { done <- Run(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case a := <-listening:
		return "http://" + a.String()
	case err := <-done:
		done <- err
		t.Fatalf("Run: %v", err)
		return ""
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, strings.TrimSpace(string(b))
}

// until asks again and again until the answer is as wanted.
func until(t *testing.T, url string, status int, text string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		code, body := get(t, url)
		if code == status && strings.Contains(body, text) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s answers %d %q, want %d %q", url, code, body, status, text)
		case <-tick.C:
		}
	}
}

func TestServerIntroducesItself(t *testing.T) {
	etcd := etcdtest.Start(t)
	url := start(t, Options{Endpoints: etcd.Endpoints()})
	until(t, url+"/readyz", 200, "ok")
	if code, body := get(t, url+"/healthz"); code != 200 {
		t.Errorf("/healthz: %d %s", code, body)
	}
	if code, body := get(t, url+"/metrics"); code != 200 || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics: %d", code)
	}
	s := readStore(t, etcd)
	if len(s.Incarnation) != 16 || len(s.Endpoints) == 0 || s.Newest != version.String() {
		t.Errorf("store: %+v", s)
	}
	// A second server finds the same store.
	until(t, start(t, Options{Endpoints: etcd.Endpoints()})+"/readyz", 200, "ok")
	if again := readStore(t, etcd); again.Incarnation != s.Incarnation {
		t.Errorf("incarnation changed from %s to %s", s.Incarnation, again.Incarnation)
	}
}

func connect(t *testing.T, etcd *etcdtest.Server) *store.Client {
	t.Helper()
	c, err := store.Connect(t.Context(), store.Options{Endpoints: etcd.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func readStore(t *testing.T, etcd *etcdtest.Server) observed.Store {
	t.Helper()
	e, ok, err := connect(t, etcd).Get(t.Context(), keys.Default.StoreKey())
	if err != nil || !ok {
		t.Fatalf("store key: %v %v", ok, err)
	}
	s, err := observed.Decode[observed.Store](e)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestOlderServerDoesNotControl: it says so and waits to be upgraded.
func TestOlderServerDoesNotControl(t *testing.T) {
	was := version.Version
	version.Version = "v0.1.0"
	t.Cleanup(func() { version.Version = was })
	etcd := etcdtest.Start(t)
	record := observed.Encode(observed.Store{Incarnation: "0123456789abcdef", Newest: "v0.2.0", Endpoints: []string{"http://10.0.0.1:2379"}})
	if _, err := connect(t, etcd).Commit(t.Context(), nil, []store.Op{store.Put(keys.Default.StoreKey(), record)}); err != nil {
		t.Fatal(err)
	}
	url := start(t, Options{Endpoints: etcd.Endpoints()})
	until(t, url+"/readyz", 503, "a newer pgctrl has written to this etcd: it is v0.2.0, this is v0.1.0")
	if code, _ := get(t, url+"/healthz"); code != 200 {
		t.Errorf("/healthz: %d; a restart would not help", code)
	}
	if s := readStore(t, etcd); s.Newest != "v0.2.0" {
		t.Errorf("newest became %s", s.Newest)
	}
}

func TestServerWaitsForEtcd(t *testing.T) {
	away := func(context.Context, store.Options) (*store.Client, error) {
		return nil, errors.New("connection refused")
	}
	url := start(t, Options{Connect: away})
	until(t, url+"/readyz", 503, "connect to etcd: connection refused")
	if code, _ := get(t, url+"/healthz"); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
}

// TestServerGivesUpOnAnOldEtcd: no waiting makes it newer.
func TestServerGivesUpOnAnOldEtcd(t *testing.T) {
	old := func(context.Context, store.Options) (*store.Client, error) { return nil, store.ErrServerTooOld }
	err := Run(t.Context(), Options{Listen: "127.0.0.1:0", Connect: old})
	if !errors.Is(err, store.ErrServerTooOld) {
		t.Errorf("Run: %v", err)
	}
}

func TestReachable(t *testing.T) {
	for _, c := range []struct{ advertised, configured, want string }{
		{"http://10.0.0.1:2379", "http://127.0.0.1:2379", "http://10.0.0.1:2379"},
		{"http://127.0.0.1:2379,http://10.0.0.1:2379", "", "http://10.0.0.1:2379"},
		{"http://localhost:2379", "http://10.0.0.9:2379", "http://10.0.0.9:2379"},
		{"http://[::1]:2379", "http://127.0.0.1:2379", "http://[::1]:2379"},
		{"http://0.0.0.0:2379", "http://db0:2379", "http://db0:2379"},
	} {
		got := reachable(strings.Split(c.advertised, ","), slices.DeleteFunc(strings.Split(c.configured, ","), func(s string) bool { return s == "" }))
		if strings.Join(got, ",") != c.want {
			t.Errorf("reachable(%s, %s) = %v, want %s", c.advertised, c.configured, got, c.want)
		}
	}
}
