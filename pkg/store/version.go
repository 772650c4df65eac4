package store

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// ErrServerTooOld means that the etcd server has faults that pgctrl can't live
// with; the error's text names the version found and the one needed.
var ErrServerTooOld = errors.New("etcd server is too old")

// reconnect is how a broken connection is dialled again: soon, because a
// failover may be waiting behind it.
var reconnect = grpc.ConnectParams{
	Backoff: backoff.Config{
		BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second,
	},
	MinConnectTimeout: 3 * time.Second,
}

// checkVersion refuses what is older than 3.6.14, and 3.7.0. Before those a
// reader of a single key could receive events of every later key
// (GHSA-xg4h-6gfc-h4m8), nested transactions got past the rights of a role, and a
// server that had been paused could answer with stale data.
func checkVersion(endpoint, version string) error {
	var major, minor, patch int
	// What follows the patch number (-rc.0, +git) does not matter here.
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return fmt.Errorf("%w: %s says it is version %q, which is no version; need 3.6.14 or later, or 3.7.1 or later",
			ErrServerTooOld, endpoint, version)
	}
	ok := major > 3 || major == 3 && (minor > 7 || minor == 7 && patch >= 1 || minor == 6 && patch >= 14)
	if !ok {
		return fmt.Errorf("%w: %s is version %s; need 3.6.14 or later, or 3.7.1 or later", ErrServerTooOld, endpoint, version)
	}
	return nil
}
