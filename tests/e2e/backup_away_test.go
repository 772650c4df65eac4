package e2e

import (
	"context"
	"errors"
	"flag"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
)

// TestS3AwayDuringASwitchover: a store that refuses, hangs or can't be reached, for minutes
// full of writes, delays a switchover by a bounded time and loses no WAL: what waited on the
// former primary, which archives nothing as a replica, its agent archives.
func TestS3AwayDuringASwitchover(t *testing.T) {
	ctx := begin(t)
	server, _ := withS3(ctx, t)
	for i, a := range aways(server) {
		if *everyWay || i == len(aways(server))-1 {
			t.Run(a.name, func(t *testing.T) { switchoverWithout(ctx, t, a) })
		}
	}
}

// By hand: -away 10m -every-way. One way and 90 seconds of writes are what CI has time for: a store
// that is cut off is the one that takes longest to be given up.
var (
	awayFor  = flag.Duration("away", 90*time.Second, "how long S3 is away before the switchover")
	everyWay = flag.Bool("every-way", false, "also with an S3 that refuses and one that hangs")
)

// switchoverWithin bounds a switchover while nothing can be archived. Patroni gives the old
// primary's shutdown 60 s of its own.
const switchoverWithin = 90 * time.Second

func switchoverWithout(ctx context.Context, t *testing.T, a away) {

	from, to := leaderAndNext(ctx, t)
	everythingArchived(ctx, t, "", time.Minute)
	ok(t, a.away(ctx))
	here := false
	defer func() {
		if !here {
			_ = a.back(context.WithoutCancel(ctx))
		}
	}()
	gone := time.Now()
	writeSegments(ctx, t, *awayFor)
	statusSays(ctx, t, archiveFailing)
	t.Logf("segments that wait: %s", waiting(ctx, t))

	began := time.Now()
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	took := time.Since(began)
	t.Logf("the switchover took %s", took.Round(time.Millisecond))
	if took > switchoverWithin {
		t.Errorf("the switchover took %s, want %s at most", took, switchoverWithin)
	}
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	writeSegments(ctx, t, 30*time.Second)
	t.Logf("segments that wait %s after the store went: %s", time.Since(gone).Round(time.Second), waiting(ctx, t))

	ok(t, a.back(ctx))
	here = true
	healed := time.Now()
	ok(t, fleet.Until(ctx, 3*time.Minute, "nothing to wait for the archive any more", func(ctx context.Context) error {
		if left := waiting(ctx, t); regexp.MustCompile(` [1-9]`).MatchString(left) {
			return errors.New(left)
		}
		return nil
	}))
	everythingArchived(ctx, t, "", 5*time.Minute)
	t.Logf("everything is archived %s after the store is back", time.Since(healed).Round(time.Second))
	ok(t, fleet.Until(ctx, time.Minute, "the status to speak of archiving no more", func(ctx context.Context) error {
		if text := statusText(ctx); strings.Contains(text, archiveFailing) {
			return errors.New(text)
		}
		return nil
	}))
}

// writeSegments writes, and ends a segment of WAL each second.
func writeSegments(ctx context.Context, t *testing.T, d time.Duration) {
	t.Helper()
	h := leading(ctx, t)
	for began := time.Now(); time.Since(began) < d; hold(ctx, time.Second) {
		sqlOn(ctx, t, h, "create table if not exists written(at timestamptz, what text); insert into written select now(), repeat(md5(i::text), 10) from generate_series(1, 1000) i; select pg_switch_wal()")
	}
}

// waiting is how many segments wait for the archive, by host.
func waiting(ctx context.Context, t *testing.T) string {
	t.Helper()
	var out []string
	for _, h := range hosts.Nodes {
		n := must[string](t)(h.Exec(ctx, "sh", "-c", "ls /var/lib/postgresql/*/"+cluster+"/pg_wal/archive_status 2>/dev/null | grep -c ready; true"))
		out = append(out, h.Name+" "+strings.TrimSpace(n))
	}
	return strings.Join(out, ", ")
}
