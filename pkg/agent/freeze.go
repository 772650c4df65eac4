package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// DefaultFreezeFile freezes every cluster of the node while it exists; with a dot
// and a cluster's name behind it, that cluster. Rendered files tell people so.
const DefaultFreezeFile = "/etc/pgctrl/freeze"

// freeze is a file that tells the agent to leave a cluster alone on this node. It
// is the way that needs neither etcd nor a server (ROLES section 6). Nothing is
// applied or repaired while it exists: plans are taken in and answered, and the
// host is compared with them and only reported. What follows the leader goes on,
// because a frozen node must not keep clients on a former primary.
type freeze struct {
	path string
	why  string // its first line
}

// frozen looks for the file; nil: there is none. One that can't be looked at
// counts as there, since leaving things alone can be made up for.
func (a *Agent) frozen(cluster string) *freeze {
	for _, path := range []string{a.o.FreezeFile, a.o.FreezeFile + "." + cluster} {
		_, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		why := ""
		if err == nil {
			why, err = firstLine(path)
		}
		if err != nil {
			why = "can't be read: " + err.Error()
		}
		return &freeze{path: path, why: why}
	}
	return nil
}

// maxWhy is the longest reason that is shown.
const maxWhy = 200

func firstLine(path string) (string, error) {
	// Opening a pipe would wait for its other end.
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxWhy))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(strings.TrimLeft(string(b), "\r\n\t "), "\n")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, line)), nil
}

func (f *freeze) String() string {
	if f.why == "" {
		return f.path
	}
	return f.path + " (" + f.why + ")"
}

// note says that the node is frozen. It is true: nothing is wrong, and people
// should know. Whatever waits for the freeze to end is said beside it.
func (f *freeze) note(cluster, node string) observed.Condition {
	return observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.Frozen,
		Message: fmt.Sprintf("nothing of %s is applied or repaired on node %s while %s exists; routes still follow the leader", cluster, node, f),
		Next:    f.next(node),
	}
}

func (f *freeze) next(node string) string { return fmt.Sprintf("rm %s (on %s)", f.path, node) }

// frozen looks for the file and says once when the answer is another one.
func (c *cluster) frozen() *freeze {
	frozen := c.a.frozen(c.name)
	c.mu.Lock()
	before := c.freeze
	c.freeze = frozen
	c.mu.Unlock()
	switch {
	case frozen != nil && (before == nil || *before != *frozen):
		c.log.Warn("frozen: nothing is applied or repaired; routes still follow the leader",
			zap.String("file", frozen.path), zap.String("why", frozen.why))
	case frozen == nil && before != nil:
		c.log.Info("no longer frozen", zap.String("file", before.path))
	}
	return frozen
}

// compareOnly is applyOne for a frozen cluster: it looks and touches nothing.
func (c *cluster) compareOnly(ctx context.Context, con *concern, r plan.Resource, f *freeze) observed.Condition {
	hash := plan.Hash(plan.Resources{r}, con.plan.Secrets)
	id := r.ID()
	ctx, cancel := context.WithTimeout(ctx, ApplyTimeout)
	defer cancel()
	diff, err := c.diff(ctx, r)
	if err != nil {
		cond := plan.Condition(err)
		cond.Message = id + ": " + cond.Message
		return cond
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if diff.Empty() {
		// Also when people put it right themselves, which is no repair of ours.
		con.applied[id] = hash
		delete(con.drifted, id)
		delete(con.failing, id)
		return plan.Condition(nil)
	}
	if con.applied[id] == hash {
		c.driftedLocked(con, id, diff)
		c.log.Warn("host drifted; frozen, so it is left so", zap.String("concern", con.name), zap.String("resource", id), zap.Strings("diff", diff))
	}
	return observed.Condition{
		Type: observed.Applied, Status: observed.False, Reason: observed.Frozen,
		Message: fmt.Sprintf("%s is not as planned and is left so (%s) while %s exists", id, diff, f),
		Next:    f.next(c.a.o.Node),
	}
}
