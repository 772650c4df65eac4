package file

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// dnsmasq runs the real one on a folder of hosts and returns how to ask it.
func dnsmasq(t *testing.T, folder string) func(name string) string {
	t.Helper()
	program, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Fatal("needs dnsmasq: apt-get install dnsmasq-base")
	}
	address := freeport.Address(t)
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), program, "-k", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--port="+port, "--user=root",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--hostsdir="+folder, "--local=/test/", "--log-facility=-", "--pid-file=")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", address)
	}}
	return func(name string) string {
		addresses, err := r.LookupHost(t.Context(), name+".test.")
		if err != nil && !strings.Contains(err.Error(), "no such host") {
			return err.Error()
		}
		slices.Sort(addresses)
		return strings.Join(addresses, " ")
	}
}

// TestDnsmasqNoticesByItself: what doc.go of the controller dns builds on.
func TestDnsmasqNoticesByItself(t *testing.T) {
	folder := t.TempDir()
	ask := dnsmasq(t, folder)
	path := filepath.Join(folder, "c")
	d := New(Options{AllowPaths: []string{path}})
	leadsTo := func(name, want string) {
		t.Helper()
		got := ""
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			if got = ask(name); got == want {
				return
			}
		}
		t.Fatalf("%s leads to %q, want %q", name, got, want)
	}
	write := func(content string) {
		t.Helper()
		if err := d.Apply(t.Context(), plan.Watched{File: path, Mode: "0644", Content: "# names\n" + content}, 1); err != nil {
			t.Fatal(err)
		}
	}
	write("10.0.0.1 c.test\n10.0.0.2 c-replica.test\n10.0.0.3 c-replica.test\n")
	leadsTo("c", "10.0.0.1")
	leadsTo("c-replica", "10.0.0.2 10.0.0.3")
	for i := range 20 {
		now := fmt.Sprintf("10.0.1.%d", i)
		write(now + " c.test\n")
		leadsTo("c", now) // and to nothing else beside it
	}
	leadsTo("c-replica", "")
	if err := d.Remove(t.Context(), plan.Watched{File: path}, 1); err != nil {
		t.Fatal(err)
	}
	leadsTo("c", "")
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
