// Package delivery tells hooks of events: it posts them to webhooks and has commands run, and
// keeps account of how far each hook is. What is wanted, in which words and how often it is
// tried, package hooks decides.
//
// The leading server alone delivers; every write is guarded by its leadership, so that one that
// lost it without noticing at worst repeats what it just sent. Each hook has a goroutine of its
// own and shares nothing with others but the connection to etcd: one that is slow, broken or
// hostile delays none. It reads events from etcd a page at a time, in the order of their
// writing, and keeps no queue; what a receiver misses while it is down stays in etcd alone.
//
// How far a hook is, is written after what it is about: a server that dies in between repeats
// what was delivered within the last fifth of a second, with the same ids.
package delivery
