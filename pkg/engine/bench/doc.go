// Package bench measures the engine on a real etcd, beside the least that could do
// the same: a list, a watch, a set of dirty names and a fenced transaction.
//
//	go test ./pkg/engine/bench -bench . -run XXX
//
// BenchmarkFleet runs the real controllers over a fleet (-clusters 5000) in a process
// of its own: planned from nothing, then compared by a server that starts anew.
// PGCTRL_BENCH_PROFILE=FILE writes that process's CPU profile.
//
// It is a package of its own so that the engine's tests need not link etcd's server.
package bench
