// Package patroni talks to Patroni's REST API on hosts: it applies the dynamic
// configuration, brings a changed file into force and finds out whether Patroni
// took it.
//
// # How a reload is proved
//
// POST /reload answers 202 and only sets a flag, which the main loop looks at up to
// loop_wait later. A no-op PATCH wakes the loop, so it usually is within a second.
// What the loop does then (read from 3.0.2 to 4.1):
//
//  1. It reads the file. If it can't be read or a value is of a wrong type, it logs
//     an exception and keeps the old configuration; nothing answers differently.
//  2. It takes over tags, then the REST API's own settings, extra headers included.
//  3. It rewrites PostgreSQL's files and has PostgreSQL reload, whether anything
//     changed or not.
//
// So three things together are the proof: every header under
// restapi.http_extra_headers and every tag of the file is in the answer of GET
// /patroni, PostgreSQL has read its files since, and it found no new mistake in
// them. A template that puts a hash of its content into an extra header makes the
// first of these exact. PostgreSQL that has reloaded while the old headers or tags
// are still there is step 1's failure. Nothing here restarts anything.
package patroni
