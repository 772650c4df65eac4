package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// holdLoop waits for processes by a pattern, stops them, sees that they are stopped, and prints
// their pids. Those that a parent is about to start hang with it.
const holdLoop = `for i in $(seq 1200); do
  p=$(pgrep -f -- "$1")
  [ -n "$p" ] && kill -STOP $p 2>/dev/null && { echo $p; exit 0; }
  sleep 0.05
done
exit 1`

// held stops the first processes with a pattern in their command line that come up on a host
// within a minute, and returns what lets them go on. A pattern does not match itself when its
// first letter stands in brackets.
func held(ctx context.Context, t *testing.T, h *lab.Host, pattern string) (goOn func()) {
	t.Helper()
	out, err := h.Exec(ctx, "bash", "-c", holdLoop, "hold", pattern)
	if err != nil {
		t.Fatalf("no process %q came up on %s: %v", pattern, h.Name, err)
	}
	pids := strings.Fields(out)
	t.Logf("%s on %s stands still: %s", pattern, h.Name, strings.Join(pids, " "))
	done := false
	goOn = func() {
		if !done {
			done = true
			_, _ = h.Exec(context.WithoutCancel(ctx), append([]string{"kill", "-CONT"}, pids...)...) // it may have been killed
		}
	}
	t.Cleanup(goOn)
	return goOn
}

// since is what a unit on a host has said from a moment on.
func since(ctx context.Context, t *testing.T, h *lab.Host, unit string, moment time.Time) string {
	t.Helper()
	return must[string](t)(h.Exec(ctx, "journalctl", "-q", "-o", "cat", "-u", unit, "--since", fmt.Sprintf("@%d", moment.Unix())))
}
