package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/probe"
	"github.com/pgctrl/pgctrl/tests/probe/holders"
)

// letGoWithin is how long after its PostgreSQL took its last write a host may have the
// address. Patroni says 200 until it has stopped PostgreSQL, so it is PostgreSQL that
// tells, in recovery again or stopped for that long; half a second is for the sampling.
const letGoWithin = plan.StoppedFor + 500*time.Millisecond

// TestR2VIPEtcdAwayWithoutFailsafe: without failsafe_mode Patroni demotes a primary
// that etcd is away from. The address goes with it, nobody takes it and no write is
// accepted until etcd is back, and then it is where the leader is.
func TestR2VIPEtcdAwayWithoutFailsafe(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	// Patroni gives up within loop_wait and retry_timeout: the test should not take long.
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "postgres", "failsafe_mode=false", "loop_wait=2s", "retry_timeout=3s", "ttl=20s"))
	t.Cleanup(func() {
		ctx := context.Background()
		_, _ = hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-etcd")
		must[string](t)(hosts.Pgctrl(ctx, "unset", cluster, "postgres", "failsafe_mode", "loop_wait", "retry_timeout", "ttl"))
		statusReady(ctx, t)
	})
	statusReady(ctx, t)
	leader, _ := leaderAndNext(ctx, t)
	vipOn(ctx, t, leader, 20*time.Second)
	direct := must[probe.Target](t)(hosts.Target(ctx, cluster, hosts.Node(leader), 5432))

	o := observeVIP(t)
	watch := probe.Watch(ctx, direct, 20*time.Millisecond)
	s := probe.Start(ctx, throughVIP(ctx, t), 50*time.Millisecond, 60, nil)
	away := time.Now()
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-etcd"))
	ok(t, fleet.Until(ctx, 30*time.Second, "the address to be dropped", func(context.Context) error {
		if on := o.Holders(); len(on) > 0 {
			return fmt.Errorf("it is on %v", on)
		}
		return nil
	}))
	hold(ctx, 3*time.Second) // nobody takes it, and nobody writes
	back := time.Now()
	last := watch.LastBefore(back)
	watch.Stop()
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-etcd"))
	var to string
	through := throughVIP(ctx, t)
	ok(t, fleet.Until(ctx, time.Minute, "a write through the address", func(ctx context.Context) (err error) {
		if to, err = hosts.Leader(ctx, cluster); err != nil || to == "" {
			return fmt.Errorf("leader %q: %v", to, err)
		}
		one := through.Once(ctx)
		if one.Outcome != probe.Written || one.Server != hosts.Node(to).IP {
			err = fmt.Errorf("%s on %q: %v", one.Outcome, one.Server, one.Err)
		}
		return err
	}))
	line := o.judged(t, holders.Move{After: away, Before: time.Now(), Host: hosts.Node(to).Name})
	gone := line.Changes[0].At
	for _, c := range line.Changes[1:] {
		if !c.Has {
			gone = c.At
			break
		}
	}
	t.Logf("last write %s after etcd went, the address %s after that; back on %s", last.Sub(away), gone.Sub(last), to)
	if gone.Sub(last) > letGoWithin {
		t.Errorf("the address was on a host for %s after its PostgreSQL took its last write", gone.Sub(last))
	}
	for _, one := range s.Stop() {
		if one.Outcome == probe.Written && one.Start.After(gone) && one.End.Before(back) {
			t.Errorf("a write was accepted by %s with the address gone", one.Server)
			break
		}
	}
	ok(t, hosts.Whole(ctx, cluster, time.Minute))
}
