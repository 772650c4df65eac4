package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// loginEvery is how often each way in is tried, each time on a new connection; the next
// attempt waits for the one before.
const loginEvery = 20 * time.Millisecond

// loginSampler logs in by every way there is, again and again.
type loginSampler struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	n       int
	refused []string // somebody said that the role or the password is no good
	other   []string // nobody was there
}

// since takes what was counted since the last call.
func (s *loginSampler) since() (n int, refused, other []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, refused, other = s.n, s.refused, s.other
	s.n, s.refused, s.other = 0, nil, nil
	return n, refused, other
}

func (s *loginSampler) try(ctx context.Context, what string, once func(context.Context) error) {
	tick := time.NewTicker(loginEvery)
	defer tick.Stop()
	for {
		err := once(ctx)
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.n++
		switch text := fmt.Sprintf("%s %s: %v", time.Now().Format("15:04:05.000"), what, err); {
		case err == nil:
		case isRefusal(err):
			s.refused = append(s.refused, text)
		default:
			s.other = append(s.other, text)
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// isRefusal tells a login that was refused from a server that is not there. When its own
// login is refused PgBouncer says no more than while PostgreSQL starts; then the servers'
// logs have the difference (refusedLogins).
func isRefusal(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && strings.HasPrefix(pe.Code, "28") {
		return true
	}
	text := err.Error()
	return slices.ContainsFunc([]string{"authentication failed", "login failed", "password", "not permitted to log in", "no such user"},
		func(s string) bool { return strings.Contains(text, s) })
}

// sampleLogins logs in as an application's user through every port of every node that
// PgBouncer is behind, and as pgctrl_monitor over every host's own socket.
func sampleLogins(ctx context.Context, t *testing.T, user, password string) *loginSampler {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	s := &loginSampler{stop: stop}
	for _, h := range hosts.Nodes {
		for _, port := range []int{5433, 5434, 6432} {
			s.wg.Go(func() {
				s.try(ctx, fmt.Sprintf("%s through %s:%d", user, h.Name, port), func(ctx context.Context) error {
					_, err := login(ctx, h, port, user, password, "postgres", "select 'in'")
					return err
				})
			})
		}
		dial := socketOf(t, h)
		s.wg.Go(func() {
			s.try(ctx, "monitor on "+h.Name, func(ctx context.Context) error {
				role, password, err := monitorOn(ctx, h)
				if err != nil {
					return nil //nolint:nilerr // etcd is not what is sampled
				}
				return localLogin(ctx, dial, role, password)
			})
		})
	}
	t.Cleanup(func() { s.stop(); s.wg.Wait() })
	return s
}

// socketOf dials a host's PostgreSQL over its unix socket.
func socketOf(t *testing.T, h *lab.Host) pgconn.DialFunc {
	t.Helper()
	args := h.Command(t.Context(), "true").Args // nsenter -t PID ...
	i := slices.Index(args, "-t")
	if i < 0 {
		t.Fatalf("no process of %s in %v", h.Name, args)
	}
	path := "/proc/" + args[i+1] + "/root/run/postgresql/.s.PGSQL.5432"
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
}

func localLogin(ctx context.Context, dial pgconn.DialFunc, role, password string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cfg, err := pgx.ParseConfig("host=127.0.0.1 port=5432 sslmode=disable dbname=postgres")
	if err != nil {
		return err
	}
	cfg.User, cfg.Password, cfg.DialFunc = role, password, dial
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// monitorOn is whom a program on a host logs in as: the role that was given a password
// last, once the host's own PostgreSQL is said to have it.
func monitorOn(ctx context.Context, h *lab.Host) (role, password string, err error) {
	l := hosts.Layout
	r, err := hosts.Etcd.Txn(ctx).Then(clientv3.OpGet(l.Secret(cluster, twins.Monitor[0].Secret)), clientv3.OpGet(l.Secret(cluster, twins.Monitor[1].Secret)),
		clientv3.OpGet(l.ObservedKey(h.Name, cluster, "databases"))).Commit()
	if err != nil {
		return "", "", err
	}
	at := int64(0)
	for i, p := range twins.Monitor {
		for _, e := range r.Responses[i].GetResponseRange().Kvs {
			said := ""
			for _, report := range r.Responses[2].GetResponseRange().Kvs {
				said = string(report.Value)
			}
			if strings.Contains(said, observed.Login(p.Role, e.ModRevision, "")) && e.ModRevision > at {
				role, password, at = p.Role, string(e.Value), e.ModRevision
			}
		}
	}
	if role == "" {
		return "", "", errors.New("no role")
	}
	return role, password, nil
}
