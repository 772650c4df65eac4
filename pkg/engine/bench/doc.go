// Package bench measures the engine on a real etcd, beside the least that could do
// the same: a list, a watch, a set of dirty names and a fenced transaction.
//
//	go test ./pkg/engine/bench -bench . -run XXX
//
// What the real controllers cost on a fleet, tests/bench/scale measures with processes
// of their own.
//
// It is a package of its own so that the engine's tests need not link etcd's server.
package bench
