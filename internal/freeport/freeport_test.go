package freeport

import (
	"fmt"
	"net"
	"testing"
)

// A port is given once, and never one that somebody listens on.
func TestPortsAreFree(t *testing.T) {
	got := map[int]bool{}
	for range 200 {
		p := Take(t)
		if got[p] {
			t.Fatalf("port %d was given twice", p)
		}
		got[p] = true
		if p >= 32768 {
			t.Fatalf("port %d may be a connection's", p)
		}
	}
	for _, network := range []string{"tcp", "udp"} {
		p := first + count + 17 // which Take never gives
		var err error
		if network == "tcp" {
			var l net.Listener
			if l, err = net.Listen(network, fmt.Sprintf("127.0.0.1:%d", p)); err == nil {
				defer l.Close()
			}
		} else {
			var c net.PacketConn
			if c, err = net.ListenPacket(network, fmt.Sprintf("127.0.0.1:%d", p)); err == nil {
				defer c.Close()
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if reserve(t, p) {
			t.Errorf("a port that %s listens on is free", network)
		}
	}
}

func TestAPortIsFreeAgain(t *testing.T) {
	var p int
	t.Run("one", func(t *testing.T) { p = Take(t) })
	if !reserve(t, p) {
		t.Error("it is kept for ever")
	}
}
