// Package pgbouncer brings a PgBouncer's configuration into force and watches over
// the program, by its admin console.
//
// The console lets in who has the program's own user id, over its socket: no password
// for it exists. The agent is root and connects as the owner of the socket.
//
// What PgBouncer 1.18 does, each measured, and what follows from it here:
//
//   - RELOAD of a file with a fault is answered with RELOAD; the lines above the fault
//     are in force, the others not. So a throwaway process judges the file first.
//   - A second [pgbouncer] section resets what the first one set. So the throwaway's
//     own settings replace lines in place.
//   - A listening port that is taken is a warning, and PgBouncer goes on without it.
//     So the proof asks the port too.
//   - PAUSE outlives whoever issued it, and a pause of everything is shown nowhere.
//     What shows are clients that wait. RESUME of everything does not end PAUSE of one
//     database.
package pgbouncer
