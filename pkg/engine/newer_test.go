package engine

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestOlderStandbyGivesWay: a newer server introduces itself while an older one waits
// for leadership. When the leader goes, the older one must not take over.
func TestOlderStandbyGivesWay(t *testing.T) {
	bubble(t, func(f farm) {
		f.member("pg-test", "x")
		f.etcd.Put(layout.StoreKey(), string(observed.Encode(observed.Store{Newest: "v0.1.0"})))
		old, standby := &fake{name: "haproxy"}, &fake{name: "haproxy"}
		first, stop := f.engine("first", Options{Version: "v0.1.0"}, old)
		time.Sleep(time.Second)
		second, _ := f.engine("second", Options{Version: "v0.1.0"}, standby)
		time.Sleep(time.Second)
		f.etcd.Put(layout.StoreKey(), string(observed.Encode(observed.Store{Newest: "v0.2.0"})))
		time.Sleep(time.Second)
		if _, leads := first.Leading(); !leads {
			t.Error("the leader stopped, and nobody else is there")
		}
		stop()
		time.Sleep(patience)
		if _, leads := second.Leading(); leads || standby.called("") != 0 {
			t.Errorf("the older standby leads: %v, and planned %d times", leads, standby.called(""))
		}
		third, _ := f.engine("third", Options{Version: "v0.2.0"}, &fake{name: "haproxy"})
		f.member("pg-test", "y")
		time.Sleep(time.Second)
		if _, leads := third.Leading(); !leads {
			t.Error("the newer server does not lead")
		}
		f.expect(planOf("pg-test", "haproxy"), "y")
	})
}
