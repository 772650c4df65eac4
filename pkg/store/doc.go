// Package store is all of etcd that the rest of the program sees: reads, fenced
// transactions, mirrors that know how fresh they are, leased presence, and
// leadership. It and `pgctrl etcd` are the only places that know the client
// library, so its traps are dealt with here and nowhere else.
//
// # Reading
//
// [Client.Get] and [Client.List] are linearizable and bounded in time. A [Mirror]
// keeps a copy of some ranges: it lists them at one revision and watches from the
// next, so nothing falls between the two. One response of the watch is applied as
// a whole and becomes one immutable snapshot; the snapshot is visible before the
// changes are announced; announcements come one at a time and, for each range, in
// revision order. Each range has a watch of its own, because the right to read is
// checked per range, so a transaction over two ranges of one mirror may show in
// two steps; the snapshot's Revision is the one up to which all are complete.
//
// # Freshness
//
// A watch can't tell that it is cut off: it is silent, and so is an idle store.
// Therefore every second the mirror asks etcd for its revision by a linearizable
// read and, when the watch is not that far, has etcd say how far it is. Once the
// mirror has reached the answer, it was complete at the moment of the question;
// [Mirror.Fresh] returns that moment. A mirror without proof for five seconds
// gives up its stream, which may be hung, and starts again on another.
//
// # Writing
//
// [Client.Commit] is one transaction under guards. The guards are on revisions
// and values, never on etcd's Version, which starts again after a deletion. An
// error other than [ErrConflict] leaves open whether the write happened.
//
// # Leadership
//
// [Client.Campaign] is a transaction that creates a key under a lease. The lease
// is worth its time from when its renewal was sent, by this process's clock, less
// a margin: [Leadership.Context] dies then whatever anybody believes, and
// [Leadership.Guard] has etcd refuse whatever was on its way.
//
// # Who may block
//
// Callbacks of [Mirror.OnChange] run on the mirror's goroutine and hold up the
// mirror, so they only note what changed. A slow reader of a snapshot holds up
// nobody: snapshots share structure and none is ever changed.
package store
