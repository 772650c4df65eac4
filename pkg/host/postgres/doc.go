// Package postgres looks at the local PostgreSQL over its unix socket.
//
// The watcher is the proof behind every confirmation: a leader key says who should
// take writes, and only pg_is_in_recovery() of the right system says who does
// (Patroni's REST API says yes up to seconds before). It keeps one connection open,
// because a connection that has to be made after the promotion is exactly the
// connection that a starting server may refuse.
package postgres
