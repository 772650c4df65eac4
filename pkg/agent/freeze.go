package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// DefaultFreezeFile freezes every cluster of the node while it exists; with a dot
// and a cluster's name behind it, that cluster. Rendered files tell people so.
const DefaultFreezeFile = "/etc/pgctrl/freeze"

// freeze tells the agent to leave a cluster, or one concern of it, alone on this
// node: by a file, which needs neither etcd nor a server (ROLES section 6), or by
// the concern's plan, for a while. Nothing is applied or repaired meanwhile: plans
// are taken in and answered, and the host is compared with them and only reported.
// What follows the leader goes on, because a frozen node must not keep clients on a
// former primary.
type freeze struct {
	path string // the file; empty for a plan's
	why  string // its first line, or the plan's reason

	// Of a plan's: what it is about, its document, who asked for it, and its end.
	concern, key, owner string
	until               time.Time
}

// frozen looks for the file; nil: there is none. One that can't be looked at
// counts as there, since leaving things alone can be made up for.
func (a *Agent) frozen(cluster string) *freeze {
	for _, path := range a.freezeFiles(cluster) {
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
	return printable(line), nil
}

// printable is what people wrote, fit for a line of a terminal.
func printable(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
	if r := []rune(s); len(r) > maxWhy {
		s = string(r[:maxWhy])
	}
	return s
}

// lasts says for how long, as in "while /etc/pgctrl/freeze (why) exists".
func (f *freeze) lasts() string {
	why := ""
	if f.why != "" {
		why = " (" + f.why + ")"
	}
	if f.path != "" {
		return "while " + f.path + why + " exists"
	}
	by := ""
	if f.owner != "" {
		by = ", as " + f.owner + " asked"
	}
	return "until " + f.until.UTC().Format(time.RFC3339) + by + why
}

// left is how long until it ends by itself; a file never does.
func (f *freeze) left(now time.Time) time.Duration {
	if f.path != "" {
		return DriftEvery
	}
	return max(f.until.Sub(now), time.Millisecond)
}

// note says that the node is frozen. It is true: nothing is wrong, and people
// should know. Whatever waits for the freeze to end is said beside it.
func (f *freeze) note(cluster, node string) observed.Condition {
	of := cluster
	if f.concern != "" {
		of = cluster + "'s " + f.concern
	}
	return observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.Frozen, Key: f.key,
		Message: fmt.Sprintf("nothing of %s is applied or repaired on node %s %s; routes still follow the leader", of, node, f.lasts()),
		Next:    f.next(cluster, node),
	}
}

func (f *freeze) next(cluster, node string) string {
	if f.path == "" {
		return fmt.Sprintf("pgctrl unfreeze %s %s", cluster, f.concern)
	}
	return fmt.Sprintf("rm %s (on %s)", f.path, node)
}

// frozenConcern is what keeps a concern as it is: the node's file, else its plan;
// nil: nothing does. It says once when the plan's begins and ends.
func (c *cluster) frozenConcern(con *concern, p plan.Plan, now time.Time) *freeze {
	byFile := c.frozen()
	var byPlan *freeze
	if p.Freeze.Active(now) {
		byPlan = &freeze{
			concern: con.name, key: c.a.o.Layout.ClusterDoc(c.name, "freeze"),
			owner: printable(p.Freeze.Owner), why: printable(p.Freeze.Reason), until: p.Freeze.Until,
		}
	}
	c.mu.Lock()
	before := con.freeze
	con.freeze = byPlan
	c.mu.Unlock()
	log := c.log.With(zap.String("concern", con.name))
	switch {
	case byPlan != nil && (before == nil || *before != *byPlan):
		log.Warn("frozen: nothing is applied or repaired; routes still follow the leader",
			zap.Time("until", byPlan.until), zap.String("owner", byPlan.owner), zap.String("why", byPlan.why))
	case byPlan == nil && before != nil:
		log.Info("no longer frozen")
	}
	if byFile != nil {
		return byFile
	}
	return byPlan
}

// lookForThaw wakes the work when a freeze file came or went: nothing else about
// the cluster need change then. It reads no file, since routes wait for it.
func (c *cluster) lookForThaw() {
	exists := false
	for _, path := range c.a.freezeFiles(c.name) {
		_, err := os.Lstat(path)
		exists = exists || !errors.Is(err, fs.ErrNotExist)
	}
	c.mu.Lock()
	known := c.freeze != nil
	c.mu.Unlock()
	if exists != known {
		poke(c.wakeWork)
	}
}

func (a *Agent) freezeFiles(cluster string) []string {
	return []string{a.o.FreezeFile, a.o.FreezeFile + "." + cluster}
}

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
		con.wrote(r, hash)
		con.undrift(id)
		delete(con.failing, id)
		return plan.Condition(nil)
	}
	if con.applied[id] == hash {
		c.driftedLocked(con, id, hash, diff)
		c.log.Warn("host drifted; frozen, so it is left so", zap.String("concern", con.name), zap.String("resource", id), zap.Strings("diff", diff))
	}
	return observed.Condition{
		Type: observed.Applied, Status: observed.False, Reason: observed.Frozen,
		Message: fmt.Sprintf("%s is not as planned and is left so (%s) %s", id, diff, f.lasts()),
		Next:    f.next(c.name, c.a.o.Node),
	}
}
