package engine

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// TestTheUrgentWaitForOneStep: however many clusters are to be looked at, no more
// controllers compute than there are processors, and a new leader is next.
func TestTheUrgentWaitForOneStep(t *testing.T) {
	bubble(t, func(f farm) {
		for _, c := range clusters(60) {
			f.member(c, "x")
		}
		const step = time.Second
		var mu sync.Mutex
		var computing, most int
		enter := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			computing += n
			most = max(most, computing)
		}
		looked := make(chan time.Time, 1000)
		c := &fake{name: "haproxy", inputs: []controllers.Access{{Family: keys.Desired, Part: "members"}, {Family: keys.VIP}}}
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			enter(1)
			defer enter(-1)
			time.Sleep(step)
			if _, ok := in.Snapshot.Get(layout.VIPKey(in.Cluster)); ok && in.Cluster == "pg-59" {
				looked <- time.Now()
			}
			return copyMembers("haproxy")(in)
		}
		f.engine("leader", Options{}, c)
		time.Sleep(3 * step) // the first of sixty are under way
		f.etcd.Put(layout.VIPKey("pg-59"), "moved")
		moved := time.Now()
		if d := (<-looked).Sub(moved); d > settle+2*step {
			t.Errorf("it was looked at after %s, behind others that had come first", d)
		}
		time.Sleep(55 * time.Minute) // between two looks at everything
		synctest.Wait()
		if want := max(2, runtime.GOMAXPROCS(0)); most != want {
			t.Errorf("%d controllers computed at once on %d processors", most, want)
		}
		if n := strings.Count(strings.Join(c.calls, " "), "pg-"); n < 60 {
			t.Errorf("%d clusters were looked at", n)
		}
	})
}
