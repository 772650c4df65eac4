// Package wal finds what is missing in an archive of write-ahead log, from the names of the
// files alone. Pure functions: package pgbackrest lists the archive, and an agent decides when.
//
// # What is needed
//
// Recovery goes along one history: from a backup's first segment to the newest timeline of the
// archive, leaving each timeline where the next one begins. A timeline's history file has
// those places. So a timeline gives its segments from the one in which it begins up to the one
// before that in which the next one does: the segment of a switch is read on the new
// timeline, which holds a copy of what the old one wrote in it. What the old timeline wrote
// beyond it, and the partial segment that PostgreSQL leaves of it, belong to no history.
//
// Recovery also looks for each timeline's history file by number until one is missing, and goes
// no further. So those are needed as well.
//
// # What is no gap
//
// What comes after the newest segment is not there yet. And segments are sent several at once,
// so a segment may be there before the one before it: what was missing at one look is only a
// question, which its asker decides by looking again.
package wal
