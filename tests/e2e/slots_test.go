package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/tests/fleet"
)

// TestPermanentSlots: a logical slot is on every member that could lead, and whoever
// reads from it goes on at the new leader after a switchover. Without its entries it is
// left as it is and said; state absent drops it.
func TestPermanentSlots(t *testing.T) {
	ctx := begin(t)
	leadsFirst(ctx, t)
	const slot = "e2e_cdc"
	pending := func() {
		ok(t, fleet.Until(ctx, 30*time.Second, "a value to wait for a restart", func(ctx context.Context) error {
			out, _ := hosts.Infra.Command(ctx, "pgctrl", "status", cluster).CombinedOutput()
			if n := strings.Count(string(out), string(observed.PendingRestart)); n < len(hosts.Nodes) {
				return fmt.Errorf("%d of %d members\n%s", n, len(hosts.Nodes), out)
			}
			return nil
		}))
		operated(ctx, t, "restart", cluster, "--pending", "--confirm", cluster)
	}
	slots := func(want string) {
		t.Helper()
		ok(t, fleet.Until(ctx, time.Minute, "slot "+slot+": "+want, func(context.Context) error {
			for _, h := range hosts.Nodes {
				// Patroni restarts a replica to give it the slot.
				got, err := h.Exec(ctx, "runuser", "-u", "postgres", "--", "psql", "-XAt", "-c",
					"select count(*) from pg_replication_slots where slot_name = '"+slot+"' and slot_type = 'logical'")
				if err != nil || strings.TrimSpace(got) != want {
					return fmt.Errorf("%s has %s (%v)", h.Name, got, err)
				}
			}
			return nil
		}))
	}
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.Background(), "set", cluster, "postgres", "slots."+slot+".state=absent")
		_, _ = hosts.Pgctrl(context.Background(), "unset", cluster, "postgres", "slots."+slot+".state", "slots."+slot+".type", "slots."+slot+".database", "slots."+slot+".plugin", "parameters.wal_level")
		_, _ = hosts.Pgctrl(context.Background(), "restart", cluster, "--pending", "--confirm", cluster)
	})
	pgctrlRefuses(ctx, t, "expected parameters.wal_level: logical", "set", cluster, "postgres", "slots."+slot+".type=logical", "slots."+slot+".database=postgres", "slots."+slot+".plugin=test_decoding")
	_, _ = hosts.Pgctrl(ctx, "set", cluster, "postgres", "parameters.wal_level=logical", "slots."+slot+".type=logical",
		"slots."+slot+".database=postgres", "slots."+slot+".plugin=test_decoding")
	pending()
	began := time.Now()
	slots("1")
	t.Logf("on every member %s after the restart", time.Since(began))
	ok(t, hosts.Whole(ctx, cluster, time.Minute)) // Patroni restarts a replica to give it the slot

	sqlOn(ctx, t, leading(ctx, t), "create table if not exists slotted (n text); insert into slotted values ('before the move')")
	from, to := leaderAndNext(ctx, t)
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	ok(t, hosts.Whole(ctx, cluster, time.Minute))
	if h := leading(ctx, t); h != hosts.Node(to) {
		t.Fatalf("%s leads", h.Name)
	}
	sqlOn(ctx, t, hosts.Node(to), "insert into slotted values ('after the move')")
	got := sqlOn(ctx, t, hosts.Node(to), "select string_agg(data, ' ') from pg_logical_slot_get_changes('"+slot+"', null, null)")
	if !strings.Contains(got, "before the move") || !strings.Contains(got, "after the move") {
		t.Errorf("whoever reads at the new leader gets %q", got)
	}
	slots("1")
	ok(t, hosts.Whole(ctx, cluster, time.Minute))

	operated(ctx, t, "unset", cluster, "postgres", "slots."+slot+".type", "slots."+slot+".database", "slots."+slot+".plugin")
	ok(t, fleet.Until(ctx, 20*time.Second, "status to say that the slot is left", func(ctx context.Context) error {
		out, _ := hosts.Infra.Command(ctx, "pgctrl", "status", cluster).CombinedOutput()
		if !strings.Contains(string(out), "slot "+slot+" (logical) is in no document") {
			return fmt.Errorf("%s", out)
		}
		return nil
	}))
	hold(ctx, 12*time.Second) // a loop of Patroni's, and more
	slots("1")
	operated(ctx, t, "set", cluster, "postgres", "slots."+slot+".state=absent")
	slots("0")
	sqlOn(ctx, t, leading(ctx, t), "drop table slotted")
	_, _ = hosts.Pgctrl(ctx, "unset", cluster, "postgres", "slots."+slot+".state", "parameters.wal_level")
	pending()
	statusReady(ctx, t)
}
