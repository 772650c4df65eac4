// Package engine runs controllers over etcd. Controllers are pure; everything that
// takes care, time or courage is here: who leads, what is fresh, who has to look
// again, in which order, what is written and under which guards.
//
// # From a change to a write
//
// Two mirrors follow etcd, one of documents, plans and reports, one of what a
// failover consists of, on streams of their own. A change goes to the controllers
// that declared its family, as a key (controller, cluster) in the queue; a key says
// who has to look and never what happened, so ten changes are one look. A worker
// takes the key, gives the controller a snapshot of what it declared, and writes
// those outputs that differ, in one transaction guarded by the election and by the
// revisions that were read. Writes of several workers that wait at the same time
// share a transaction; if one of them is in conflict, each tries again alone.
//
// # Order
//
// A key is in the queue at most once and with one worker at most; what changes
// while a controller plans makes it plan again, afterwards, with all of it. More
// urgent classes go first (Failover, Change, Retry, Resync), and within a class
// whoever came first. Keys of different controllers or clusters have no order: a
// controller that needs another's output declares it as an input and is woken when
// it is there.
//
// No more controllers compute at a time than there are processors; the other workers
// wait for etcd's answers to writes. So a compare of the whole fleet delays a change, or
// the lease, by one step and not by sixty.
//
// After a write the key waits until its mirror has that write, so that a plan is
// never made against what was before it.
//
// # When nothing is planned
//
// Standby engines keep their mirrors warm and plan nothing. A leader plans nothing
// before both mirrors have everything written before its leadership, nor while
// either lacks a proof of freshness from the last three seconds (R6), nor beyond
// its own clock's idea of its lease. Should it be wrong about that, etcd refuses
// the write (R7).
//
// A result without an output leaves the key alone: absence is not deletion. A key
// is deleted only when a controller says so in as many words (controllers.Delete),
// under the same guards as a write.
//
// # What is held
//
// A mirror holds all that controllers read, but of a plan only its head, a SHA-256 of
// the rest and a few names (plan.Shorten). That answers nearly every question, above all
// whether a plan is as it should be, to the byte. A controller that wants to see a whole
// one is stopped, the plan is read from etcd, and it is asked again; one that is not at
// the revision the mirror has it at is a conflict.
//
// # Failure
//
// A panic, an undeclared read or an error concerns one key, which backs off, from
// 0.1 s to 30 s with jitter, until an input changes or the timer ends. A conflict
// backs off as well, though what conflicted is usually already on its way here as
// an input. A plan that is too large is not tried again until an input changes.
//
// # Who may block
//
// Mirrors call changed, which takes one short lock and queues. Workers block on
// etcd's answer to a write or a read, five seconds at most. A controller that does not
// return holds up one worker, one of at least two seats and its own key; after a minute
// Healthy says so.
package engine
