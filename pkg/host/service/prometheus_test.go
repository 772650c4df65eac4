package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// running is a real Prometheus.
type running struct {
	config string
	u      plan.Unit
	p      *Program
}

func startPrometheus(t *testing.T) *running {
	t.Helper()
	dir := t.TempDir()
	listen := freeport.Address(t)
	w := &running{config: filepath.Join(dir, "prometheus.yml")}
	w.put(t, "global: {scrape_interval: 10s}\n")
	cmd := exec.Command("prometheus", "--config.file="+w.config, "--storage.tsdb.path="+dir+"/data", "--web.listen-address="+listen)
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: apt-get install prometheus", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	w.u = plan.Unit{Unit: "pgctrl-prometheus.service", Files: []plan.File{{Path: "/p.env", Content: "LISTEN=" + listen + "\n"}}}
	w.p = New("prometheus", Specs["prometheus"], Options{
		Within: 5 * time.Second,
		Hangup: func(context.Context, string) error { return cmd.Process.Signal(syscall.SIGHUP) },
	})
	for end := time.Now().Add(20 * time.Second); ; {
		err := w.p.Prove(context.Background(), w.u)
		if err == nil {
			return w
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func (w *running) put(t *testing.T, content string) {
	t.Helper()
	if err := os.WriteFile(w.config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w *running) apply() error {
	if err := w.p.Reload(context.Background(), w.u); err != nil {
		return errors.Join(fmt.Errorf("reload"), err)
	}
	return w.p.Prove(context.Background(), w.u)
}
