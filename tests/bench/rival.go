package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// rival is HAProxy as people set it up by hand: the common timings of published
// setups, health checks against Patroni and nothing else. It runs on infra1 and
// sees the same moves.
type rival struct {
	host *lab.Host
	port int
}

const rivalPort = 15436

func startRival(ctx context.Context, f *fleet.Fleet) (*rival, error) {
	var servers strings.Builder
	for _, h := range f.Nodes {
		fmt.Fprintf(&servers, "  server %s %s:5432 check port 8008\n", h.Name, h.IP)
	}
	cfg := fmt.Sprintf(`global
  maxconn 4096
  stats socket /run/rival.sock level admin
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen rw
  bind *:%d
  option httpchk OPTIONS /primary
  http-check expect status 200
  default-server inter 3s fastinter 1s downinter 5s rise 3 fall 3 on-marked-down shutdown-sessions
%s`, rivalPort, servers.String())
	r := &rival{host: f.Infra, port: rivalPort}
	if err := r.host.WriteFile(ctx, "/etc/rival.cfg", 0o644, []byte(cfg)); err != nil {
		return nil, err
	}
	r.stop(ctx)
	return r, r.start(ctx)
}

func (r *rival) start(ctx context.Context) error {
	_, err := r.host.Exec(ctx, "systemd-run", "--quiet", "--unit=rival", "--service-type=notify", "--property=ExecReload=/bin/kill -USR2 $MAINPID", "--property=KillMode=mixed", "haproxy", "-Ws", "-f", "/etc/rival.cfg", "-p", "/run/rival.pid")
	if err != nil {
		return fmt.Errorf("start the hand-written HAProxy: %w", err)
	}
	return nil
}

func (r *rival) stop(ctx context.Context) {
	_, _ = r.host.Exec(ctx, "sh", "-c", "systemctl stop rival 2>/dev/null; systemctl reset-failed rival 2>/dev/null; true")
}

func (r *rival) reload(ctx context.Context) error {
	_, err := r.host.Exec(ctx, "systemctl", "reload", "rival")
	return err
}

func (r *rival) restart(ctx context.Context) error {
	r.stop(ctx)
	return r.start(ctx)
}

func (r *rival) target(password string) probe.Target {
	return probe.Target{Host: r.host.IP, Port: r.port, Password: password}
}
