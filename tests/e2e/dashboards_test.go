package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/configs/monitoring/dashboards"
	"github.com/pgctrl/pgctrl/tests/fleet"
)

// TestDashboardsReturnData: after a move of the leader every query of every panel returns
// something from the Prometheus that pgctrl set up, but for those that are empty while
// nothing is wrong. Its rules are in force, and nothing fires.
func TestDashboardsReturnData(t *testing.T) {
	ctx := begin(t)
	infra := withInfra(ctx, t)[0]
	server := prometheus(infra)
	// Every agent must have been looked at before the move, or its first count is no increase.
	ok(t, fleet.Until(ctx, time.Minute, "every agent to be measured", func(ctx context.Context) error {
		ss, err := server.Query(ctx, `up{job="agent"} == 1`)
		if err == nil && len(ss) != len(hosts.Nodes)+1 {
			err = fmt.Errorf("%d agents are", len(ss))
		}
		return err
	}))
	from, to := leaderAndNext(ctx, t)
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	ok(t, hosts.Whole(ctx, cluster, time.Minute))

	// 10 s between scrapes and between rules; a rate wants two scrapes within its minute.
	started := time.Now()
	ok(t, fleet.Until(ctx, 90*time.Second, "every panel to have data", func(ctx context.Context) error {
		var errs []error
		for _, q := range dashboards.Queries(cluster) {
			ss, err := server.Query(ctx, q.Expr)
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("%s, %s: %w", q.Dashboard, q.Panel, err))
			case len(ss) == 0 && !q.Quiet:
				errs = append(errs, fmt.Errorf("%s, %s: no data: %s", q.Dashboard, q.Panel, q.Expr))
			}
		}
		return errors.Join(errs...)
	}))
	t.Logf("%d queries of %d dashboards return data, %.0f s after the move", len(dashboards.Queries(cluster)), len(dashboards.All()), time.Since(started).Seconds())

	broken, err := server.BrokenRules(ctx)
	ok(t, err)
	for _, b := range broken {
		t.Errorf("rule %s", b)
	}
	alerts, err := server.Alerts(ctx)
	ok(t, err)
	for _, a := range alerts {
		if a.State == "firing" {
			t.Errorf("nothing is wrong and it fires: %v", a)
		}
	}
}
