// Package postgres looks at the local PostgreSQL over its unix socket, and makes roles,
// databases and what is in them so (Objects).
//
// The watcher is the proof behind every confirmation: a leader key says who should
// take writes, and only pg_is_in_recovery() of the right system says who does
// (Patroni's REST API says yes up to seconds before). It keeps one connection open,
// because a connection that has to be made after the promotion is exactly the
// connection that a starting server may refuse.
//
// Of a replica it says whether it streams, which is more than that it runs: one
// whose slot the leader has not made yet runs, and would be promoted without the
// last writes.
package postgres
