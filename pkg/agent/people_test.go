package agent_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// ROLES section 6: what people and Patroni decide is never repaired. Patroni's pause,
// a standby cluster, a failover that is asked for, and who is synchronous stay as they
// are, and during the pause its configuration does too.
func TestWhatPatroniAndPeopleDecideIsLeft(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rev := w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "postgres"), string(plan.Encode(postgresPlan(i, rev))))
		}
		a1, _, _ := settle(t, w)
		after(2 * time.Second)
		scope := layout.Scope("c")
		for key, value := range map[string]string{
			"config":   `{"ttl":31,"pause":true,"standby_cluster":{"host":"10.9.9.9"}}`,
			"failover": `{"leader":"m1","member":"m2"}`,
			"sync":     `{"leader":"m1","sync_standby":"m2"}`,
		} {
			w.etcd.Put(scope+key, value)
		}
		type at struct {
			value string
			rev   int64
		}
		look := func() map[string]at {
			out := map[string]at{}
			for _, key := range []string{"config", "failover", "sync", "leader", "initialize"} {
				v, rev, _ := w.etcd.Get(scope + key)
				out[key] = at{v, rev}
			}
			return out
		}
		before, n := look(), len(a1.host.Events())
		a1.host.ForgetConfig("c") // the dynamic configuration differs from the plan's
		a1.host.DriftNow("patroni@c.service")
		after(5 * agent.DriftEvery)
		for key, v := range look() {
			if v != before[key] {
				t.Errorf("%s was %+v and is %+v", key, before[key], v)
			}
		}
		if i := slices.IndexFunc(a1.host.Events()[n:], func(e string) bool { return strings.HasPrefix(e, "config") }); i >= 0 {
			t.Errorf("Patroni's configuration was written during its pause: %v", a1.host.Events()[n:])
		}
		expect(t, "reported", applied(t, w.report(1, "postgres")).Reason, observed.PatroniPaused)
		// The pause over, it is repaired.
		w.etcd.Put(scope+"config", `{"ttl":31}`)
		after(2 * time.Second)
		if i := slices.IndexFunc(a1.host.Events()[n:], func(e string) bool { return strings.HasPrefix(e, "config") }); i < 0 {
			t.Error("Patroni's configuration was not repaired after the pause")
		}
	})
}
