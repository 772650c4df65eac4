package etcdserver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/freeport"
)

func TestRunAnswersThenStops(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	ready := make(chan []string, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	o := Options{
		Name: "here", DataDir: dir, ClientPort: freeport.Take(t), PeerPort: freeport.Take(t),
		Log: zap.NewNop(), Ready: func(urls []string) { ready <- urls },
	}
	go func() { done <- Run(ctx, o) }()

	var urls []string
	select {
	case urls = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("data folder has mode %v (%v), want 0700", st.Mode().Perm(), err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: urls, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "/k", "v"); err != nil {
		t.Error(err)
	}
	c.Close()

	// A second member on the same port is refused with a reason a caller can test for.
	second := o
	second.DataDir = filepath.Join(t.TempDir(), "other")
	if err := Run(ctx, second); !errors.Is(err, ErrPortTaken) {
		t.Errorf("second member on one port: %v, want ErrPortTaken", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run returned %v after its context ended", err)
	}
}

func TestConfig(t *testing.T) {
	o, err := Options{Name: "infra1", Advertise: "10.0.0.1"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	c := o.config()
	var listen []string
	for _, u := range c.ListenClientUrls {
		listen = append(listen, u.String())
	}
	if diff := cmp.Diff([]string{"http://127.0.0.1:2379", "http://10.0.0.1:2379"}, listen); diff != "" {
		t.Error(diff)
	}
	if c.InitialCluster != "infra1=http://10.0.0.1:2380" {
		t.Error(c.InitialCluster)
	}
	if !c.EnableGRPCGateway {
		t.Error("Patroni needs the gateway")
	}
	if c.AutoCompactionMode != "periodic" || !strings.HasPrefix(c.AutoCompactionRetention, "5h") {
		t.Error(c.AutoCompactionMode, c.AutoCompactionRetention)
	}
	if c.QuotaBackendBytes != 2<<30 {
		t.Error(c.QuotaBackendBytes)
	}
}
