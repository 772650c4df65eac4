package agent_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestCertificateExpires: its end is a fact, and thirty days before that a condition, in
// whose way nothing stands; a newer certificate ends that, and nothing is written between.
func TestCertificateExpires(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rev := w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "postgres"), string(plan.Encode(postgresPlan(i, rev))))
		}
		a1, _, _ := settle(t, w)
		end := time.Now().Add(agent.ExpiresSoon + 10*time.Minute)
		said := func() (string, bool) {
			r := w.report(1, "postgres")
			i := slices.IndexFunc(r.Conditions, func(c observed.Condition) bool { return c.Reason == observed.CertificateExpires })
			if i < 0 {
				return r.Facts[observed.FactCertificateExpires], false
			}
			if c := r.Conditions[i]; c.Bad() || c.Next == "" {
				t.Errorf("%+v", c)
			}
			return r.Facts[observed.FactCertificateExpires], true
		}
		check := func(what, wantFact string, want bool) {
			t.Helper()
			fact, is := said()
			expect(t, what, fact, wantFact)
			expect(t, what, is, want)
		}
		check("none", "", false)
		a1.host.SetExpires(end)
		after(2 * agent.DriftEvery)
		check("more than thirty days", end.UTC().Format(time.RFC3339), false)
		quiet := w.etcd.Revision()
		after(5 * time.Minute)
		expect(t, "quiet", w.etcd.Revision(), quiet)
		after(10 * time.Minute)
		check("less", end.UTC().Format(time.RFC3339), true)
		end = end.Add(365 * 24 * time.Hour)
		a1.host.SetExpires(end)
		after(2 * agent.DriftEvery)
		check("renewed", end.UTC().Format(time.RFC3339), false)
	})
}
