package agenttest_test

import (
	"net"
	"testing"
	"testing/synctest"

	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/host/address/addresstest"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

var addr = plan.Address{Address: "10.0.0.9/32", Network: "10.0.0.9/24"}

// env is the fake's world.
type env struct{ k *agenttest.Addresses }

func (e env) Address() plan.Address { return addr }
func (e env) OtherTakes(testing.TB) net.HardwareAddr {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 7}
	e.k.SetOthers(mac)
	return mac
}
func (e env) OtherLeaves(testing.TB)             { e.k.SetOthers() }
func (e env) AddByHand(testing.TB)               { e.k.AddByHand(addr.Address) }
func (e env) RemoveByHand(testing.TB)            { e.k.RemoveByHand(addr.Address) }
func (e env) Connect(testing.TB) <-chan struct{} { return e.k.Connect(addr.Address) }
func (e env) Announced(testing.TB) int           { return e.k.Announced() }

// TestConformance holds the fake to what the real driver is held to.
func TestConformance(t *testing.T) {
	for _, c := range addresstest.Cases {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := agenttest.New("m").Addresses()
				c.Run(t, k, env{k})
			})
		})
	}
}
