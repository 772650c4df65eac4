package agent_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestLoginsAreEachNodesOwn: every agent says of its own PostgreSQL which roles it lets
// in, as soon as it does; nothing is written while that stays so.
func TestLoginsAreEachNodesOwn(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		secret := w.etcd.Put(layout.Secret("c", "users/app"), secretValue)
		_, a2, a3 := settle(t, w)
		after(5 * time.Second)
		a3.host.Replays("pgctrl_x", false)
		closed := plan.Role{Name: "old", NoPassword: true}
		described := plan.Role{Name: "theirs", Key: "/pgctrl/desired/clusters/c/users/theirs", Password: "users/app", Login: true}
		w.planSQL(secret, plan.Role{Name: "pgctrl_x", Password: "users/app", Login: true}, closed, described)
		after(2 * time.Second)
		// What is there when the agent asks first was there before; what comes later settles.
		app, old := observed.LoginSettled(observed.Login("app", secret, "1")), observed.LoginClosed("old")
		x := observed.Login("pgctrl_x", secret, "1")
		has, lacks := app+" "+observed.LoginSettled(x)+" "+old, app+" "+old
		for i, want := range []string{has, has, lacks} {
			expect(t, node(i+1), w.report(i+1, "databases").Facts[observed.FactLogins], want)
		}
		a3.host.Replays("pgctrl_x", true)
		after(3 * time.Second)
		expect(t, "after it was replayed", w.report(3, "databases").Facts[observed.FactLogins], app+" "+x+" "+old)
		after(12 * time.Second)
		expect(t, "some seconds later", w.report(3, "databases").Facts[observed.FactLogins], has)
		// At rest it is asked once a minute, and nothing is written.
		asked, etcd := a2.host.SQL().Asked, w.etcd.Revision()
		after(10 * time.Minute)
		if n := a2.host.SQL().Asked - asked; n < 9 || n > 11 {
			t.Errorf("asked %d times in ten minutes", n)
		}
		expect(t, "written at rest", w.etcd.Revision(), etcd)
	})
}
