// Package haproxy makes a running HAProxy follow the routes of a plan.
//
// What the routes mean at a moment is decided elsewhere (plan.ResolveTargets) and
// composed twice from that one answer:
//
//   - over the runtime socket, for the worker that runs now (Router.Assert);
//   - into the server-state file, for the worker that starts next. Without it every
//     server of a new worker starts up, and connections reach replicas for as long
//     as the first checks take (0.3 to 0.7 s, measured).
//
// "health down" is a lease. HAProxy's own checks lift it after `rise` good answers,
// and Patroni's /primary says yes while PostgreSQL is still in recovery; so it is
// issued again at every Assert. When the agent is dead or knows nothing, nobody
// issues it and the checks decide: that is the fallback, not a failure.
//
// An old worker, which lives on after a reload for as long as it has sessions, has
// stopped its checks and refuses "set server" and "shutdown sessions". Its sessions
// are ended one by one through the master process.
package haproxy
