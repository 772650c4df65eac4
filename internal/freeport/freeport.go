// Package freeport finds ports that the programs of a test can listen on.
//
// Port 0 does not do for that. What the kernel gives for it is one of those that it gives to
// connections too (32768 to 60999): between the test that found it and the program that listens,
// any of the thousands of connections beside it may take it, and sometimes one did.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// first and count are a range below that of connections.
const first, count = 20000, 10000

// Take returns a port of TCP and UDP on which nothing listens, on any address of this host. No other
// test is given it until this one ends.
func Take(t testing.TB) int {
	t.Helper()
	for range 1000 {
		if port := first + rand.IntN(count); reserve(t, port) {
			return port
		}
	}
	t.Fatalf("no port of %d to %d is free", first, first+count-1)
	return 0
}

// Address is a port of loopback's, as Take returns it.
func Address(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", Take(t))
}

// reserve keeps a port from other tests by a name that the kernel forgets with this process, if the
// port is free.
func reserve(t testing.TB, port int) bool {
	name, err := net.Listen("unix", fmt.Sprintf("@pgctrl-test-port-%d", port))
	if err != nil {
		return false
	}
	tcp, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err == nil {
		err = tcp.Close()
	}
	if err == nil {
		var udp net.PacketConn
		if udp, err = net.ListenPacket("udp", fmt.Sprintf(":%d", port)); err == nil {
			err = udp.Close()
		}
	}
	if err != nil {
		_ = name.Close()
		return false
	}
	t.Cleanup(func() { _ = name.Close() })
	return true
}
