package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// TestForkUnderOneTimelineNumber: a new primary loses its power before any other member
// has heard of its timeline, and the next leader takes the same number. Back again, the
// first one has WAL that nobody else has; Patroni and pg_rewind compare numbers and see
// nothing. The status says so, with the command that heals it.
func TestForkUnderOneTimelineNumber(t *testing.T) {
	ctx := begin(t)
	from, to := leaderAndNext(ctx, t)
	a, b := hosts.Node(from), hosts.Node(to)
	unit := "patroni@" + cluster + ".service"
	others := slices.DeleteFunc(slices.Clone(hosts.Nodes), func(h *lab.Host) bool { return h == a || h == b })
	for _, c := range others {
		ok(t, c.KillMain(ctx, unit, "SIGSTOP")) // its PostgreSQL goes on to ask the old leader
		t.Cleanup(func() { _ = c.KillMain(context.Background(), unit, "SIGCONT") })
	}
	epoch := confirmedOf(ctx, t).Epoch
	moved := make(chan error, 1)
	go func() { moved <- hosts.Switchover(ctx, cluster, from, to) }()
	ok(t, fleet.Until(ctx, 30*time.Second, to+" to be named leader", func(ctx context.Context) error {
		if now, err := hosts.Leader(ctx, cluster); err != nil || now != to {
			return fmt.Errorf("leader %q: %w", now, err)
		}
		return nil
	}))
	ok(t, b.Cut(ctx, append(others, a)...))
	t.Cleanup(func() { _ = b.Heal(context.Background()) })
	var first observed.Primary
	ok(t, fleet.Until(ctx, 10*time.Second, to+" to be confirmed", func(ctx context.Context) error {
		if first = confirmedOf(ctx, t); first.Member != to || !first.Writable || first.Epoch <= epoch {
			return fmt.Errorf("%+v", first)
		}
		return nil
	}))
	ok(t, fleet.Until(ctx, 10*time.Second, "its agent to put on disk that it led", func(ctx context.Context) error {
		out, err := b.Exec(ctx, "cat", "/var/lib/pgagent/led/"+cluster+".json")
		if err == nil && !strings.Contains(out, fmt.Sprintf(`"timeline":%d`, first.Timeline)) {
			err = fmt.Errorf("it says %s", out)
		}
		return err
	}))
	ok(t, b.PowerOff(ctx))
	<-moved // whatever Patroni says of it
	for _, c := range others {
		ok(t, c.KillMain(ctx, unit, "SIGCONT"))
	}
	var second observed.Primary
	ok(t, fleet.Until(ctx, 2*time.Minute, "another member to be confirmed", func(ctx context.Context) error {
		if second = confirmedOf(ctx, t); second.Member == to || !second.Writable {
			return fmt.Errorf("%+v", second)
		}
		return nil
	}))
	t.Logf("%s led on timeline %d, then %s on timeline %d", first.Member, first.Timeline, second.Member, second.Timeline)
	if first.Timeline != second.Timeline {
		t.Fatalf("the timelines have different numbers: some member heard of the first one, and this proves nothing")
	}
	ok(t, b.Heal(ctx))
	ok(t, b.Boot(ctx))
	booted := time.Now()
	var forked status.Condition
	ok(t, fleet.Until(ctx, time.Minute, "the status to tell of the fork", func(ctx context.Context) error {
		out, _ := hosts.Pgctrl(ctx, "status", cluster, "-o", "json") // exit 2: not converged
		var st status.ClusterStatus
		if err := json.Unmarshal([]byte(out), &st); err != nil {
			return err
		}
		for _, c := range st.Conditions {
			if c.Reason == observed.Forked {
				forked = c
				return nil
			}
		}
		return fmt.Errorf("it says %v", st.Conditions)
	}))
	t.Logf("said %s after the boot: %s; next: %s", time.Since(booted), forked, forked.Next)
	t.Logf("Patroni on %s:\n%s", b.Name, must[string](t)(b.Exec(ctx, "journalctl", "-u", unit, "-b", "--no-pager", "-o", "cat", "-n", "30")))
	ok(t, copyAnew(ctx, forked.Next))
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	statusReady(ctx, t)
}

// confirmedOf is the record of the confirmed primary.
func confirmedOf(ctx context.Context, t *testing.T) (p observed.Primary) {
	t.Helper()
	ok(t, json.Unmarshal([]byte(must[string](t)(hosts.Get(ctx, hosts.Layout.PrimaryKey(cluster)))), &p))
	return p
}
