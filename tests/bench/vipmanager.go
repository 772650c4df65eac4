package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// vipManager is the usual program for a virtual address beside Patroni: on every
// node one process follows the leader key. Here it does so with a second address of
// the same cluster, on the same hosts, so that it sees the same moves.
type vipManager struct {
	f       *fleet.Fleet
	address string
	// version is what the report calls it.
	version string
}

// The package is trixie's, on every release: bookworm's (1.0.2) speaks etcd's v2
// protocol, which etcd no longer has. It needs nothing but libc.
const (
	vipManagerSuite   = "trixie"
	vipManagerPackage = "vip-manager2"
	vipManagerFile    = "usr/bin/vip-manager"
	vipManagerUnit    = "vip-manager"
)

func startVIPManager(ctx context.Context, f *fleet.Fleet) (*vipManager, error) {
	v := &vipManager{f: f, address: f.Lab.Address(8)}
	program := os.Getenv("VIP_MANAGER")
	if program == "" {
		var err error
		if program, err = lab.PackagedFile(ctx, vipManagerSuite, vipManagerPackage, vipManagerFile, lab.NewLog(os.Stderr)); err != nil {
			return nil, fmt.Errorf("find vip-manager: %w; next: VIP_MANAGER=/path/to/vip-manager make bench", err)
		}
	}
	v.stop(ctx)
	for i, h := range f.Nodes {
		if err := h.CopyFile(ctx, program, "/usr/local/bin/vip-manager", 0o755); err != nil {
			return nil, err
		}
		out, err := h.Exec(ctx, "/usr/local/bin/vip-manager", "--version")
		if err != nil {
			return nil, fmt.Errorf("ask vip-manager for its version: %w", err)
		}
		v.version = versionIn(out)
		// Its defaults, and SIGINT: at SIGTERM it leaves the address where it is.
		_, err = h.Exec(ctx, "systemd-run", "--quiet", "--unit="+vipManagerUnit, "--property=KillSignal=SIGINT",
			"/usr/local/bin/vip-manager", "--ip="+v.address, "--netmask=24", "--interface=eth0", "--dcs-type=etcd", "--dcs-endpoints="+f.Endpoint(),
			"--trigger-key="+f.Layout.Leader(cluster), fmt.Sprintf("--trigger-value=%s-%d", cluster, i+1))
		if err != nil {
			return nil, fmt.Errorf("start vip-manager on %s: %w", h.Name, err)
		}
	}
	return v, nil
}

// versionIn finds the number in "version: v3.0.0, commit: ...".
func versionIn(out string) string {
	for _, word := range strings.FieldsFunc(out, func(r rune) bool { return strings.ContainsRune(" ,:\n", r) }) {
		if n := strings.TrimPrefix(word, "v"); n != "" && n[0] >= '0' && n[0] <= '9' {
			return n
		}
	}
	return cmp.Or(strings.TrimSpace(out), "of unknown version")
}

func (v *vipManager) stop(ctx context.Context) {
	for _, h := range v.f.Nodes {
		_, _ = h.Exec(ctx, "sh", "-c", "systemctl stop "+vipManagerUnit+" 2>/dev/null; systemctl reset-failed "+vipManagerUnit+" 2>/dev/null; true")
	}
}
