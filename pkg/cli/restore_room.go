package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

const (
	// rootMetric is pkg/agent's RootMetric; the two programs share no more than the name.
	rootMetric = "pgagent_data_root_free_bytes"
	// agentPort is where an agent tells its metrics, if its settings say nothing else.
	agentPort = "9641"
	// roomWithin bounds the question to one agent.
	roomWithin = 2 * time.Second
)

// roomFor refuses a restore for which a node has no room: each member has the whole database.
// An agent that can't be asked, because it listens elsewhere or is away, is in nobody's way.
func (a *app) roomFor(ctx context.Context, l *live, r restoring, s *source, docs map[string][]byte) error {
	c := desired.Load(desired.Overlay(l, docs), l.layout, r.name)
	return a.roomOn(ctx, l, c, r.on, c.Postgres.DataDir(r.name, s.formed.Version), r.from, s.backup)
}

// roomOn asks nodes' agents whether a whole backup of a cluster fits beside what is in the folder of
// its data directory.
func (a *app) roomOn(ctx context.Context, l *live, c *desired.Cluster, nodes []string, data, of string, b observed.Backup) error {
	free, errs := make([]uint64, len(nodes)), make([]error, len(nodes))
	var g sync.WaitGroup
	for i, node := range nodes {
		g.Go(func() {
			address := ""
			if n := c.Nodes[node]; n != nil {
				address = n.Address
			}
			if alive, ok := l.alive(node); ok && address == "" {
				address = alive.Address
			}
			free[i], errs[i] = a.deps.Room(ctx, address, data)
		})
	}
	g.Wait()
	need := uint64(max(b.Size, 0))
	for i, node := range nodes {
		switch {
		case errs[i] != nil:
			a.note("how much room node %s has is not known (%s); the backup needs %s", node, errs[i], size(int64(need)))
		case free[i] < need:
			return fail("node %s has %s left for %s, and backup %s of %s needs %s. Nothing was written.",
				node, size(int64(free[i])), data, b.Label, of, size(int64(need))).then("df -h %s (on %s)", parent(data), node)
		}
	}
	return nil
}

func parent(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 1)] }

// askRoom asks an agent how many bytes are left where a data directory would be made.
func askRoom(ctx context.Context, address, data string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, roomWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(address, agentPort)+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("its agent answers %s", resp.Status)
	}
	return roomIn(resp.Body, data)
}

// roomIn reads the answer: the folder that is nearest above the data directory counts.
func roomIn(text io.Reader, data string) (free uint64, err error) {
	best := -1
	for lines := bufio.NewScanner(text); lines.Scan(); {
		rest, is := strings.CutPrefix(lines.Text(), rootMetric+`{folder="`)
		folder, value, ok := strings.Cut(rest, `"} `)
		if !is || !ok || !strings.HasPrefix(data, folder+"/") || len(folder) <= best {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("its agent says %q", lines.Text())
		}
		best, free = len(folder), uint64(n)
	}
	if best < 0 {
		return 0, fmt.Errorf("its agent does not look at the folder of %s", data)
	}
	return free, nil
}
