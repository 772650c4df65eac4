package haproxy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Compose writes the server-state file that makes a starting worker begin with the
// targets. running is what the present worker does, nil when none runs: a target
// that leaves a server to the checks keeps what is there, and without a worker to
// keep from, a read-write server starts down and any other up.
func Compose(routes map[string]plan.Route, targets plan.Targets, running States) string {
	var b strings.Builder
	b.WriteString("1\n" + header + "\n")
	for _, backend := range backends(routes) {
		r := routes[backend]
		for _, srv := range r.Servers {
			start := targets[backend][srv.Name].Start
			b.WriteString(startState(r.Role, start, running, backend, srv.Name).line(backend, srv) + "\n")
		}
	}
	return b.String()
}

func startState(role plan.RouteRole, start plan.Verdict, running States, backend, server string) State {
	switch start {
	case plan.Up:
		return starting(true)
	case plan.Down:
		return starting(false)
	}
	if st, ok := running.get(backend, server); ok {
		if !st.Up { // set aside by hand, or failing: the checks lift it
			st.op, st.health = opStopped, 0
		}
		return st
	}
	return starting(role == plan.RouteReplica || role == plan.RouteAny)
}

// Conservative composes the state file when nobody can say who leads: as `pgagent
// haproxy-state` does for a start or reload while no agent answers. A worker that
// runs has its routing kept as it is, which can make nothing worse; without one,
// read-write servers start down, and Patroni's own checks bring up whoever holds
// the lock a second or two later. Clients that read start at once.
func Conservative(routes map[string]plan.Route, running States) string {
	return Compose(routes, nil, running)
}

// writeState replaces the state file. It is not synced: after a power loss it is
// composed again before the start, and a sync could hold up a failover.
func writeState(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	_, err = f.WriteString(content)
	// HAProxy reads it as whoever its unit runs it as; it holds no secret.
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write state file %s: %w", path, err)
	}
	return nil
}

func removeState(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove state file: %w", err)
	}
	return nil
}

func backends(routes map[string]plan.Route) []string {
	out := make([]string, 0, len(routes))
	for b := range routes {
		out = append(out, b)
	}
	sort.Strings(out)
	return out
}
