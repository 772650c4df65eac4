package log

import "strings"

// This file says how lines are read: where an entry begins, when it was written and how
// bad it is. The shipper's template puts these words into its own form; tests run them on
// lines that the real programs wrote, and the real shipper beside them.

// Format is how one program begins its entries: it matches the first line of an entry and
// nothing else, with the groups time (empty or absent: the journal's time of the line) and
// severity, the program's own word. RE2.
type Format string

// Severity is one that the label can be, with the programs' words for it.
type Severity struct {
	Is    string
	Words []string
}

// Severities are all of them, mildest first. PostgreSQL's FATAL ends one session, for a
// wrong password for one; what ends all is PANIC. HAProxy's ALERT is a backend without any
// server, or what keeps it from starting.
var Severities = []Severity{
	{"debug", []string{"DEBUG", "TRACE"}},
	{"info", []string{"LOG", "INFO", "DETAIL", "DIAG"}},
	{"notice", []string{"NOTICE"}},
	{"warning", []string{"WARNING", "WARN", "warn"}},
	{"error", []string{"ERROR", "FATAL", "ALERT"}},
	{"critical", []string{"CRITICAL", "PANIC", "ASSERT", "emerg", "alert", "crit", "dpanic", "panic", "fatal"}},
}

// date is how all of them write a time: to the second, then a fraction.
const date = `\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}`

// TimeLayout is date for Go, which takes a fraction behind the seconds with a dot or a comma
// by itself.
const TimeLayout = "2006-01-02 15:04:05"

// Postgres is log_destination=stderr with a log_line_prefix that begins with %m or %t.
// What belongs to an entry (DETAIL, STATEMENT ...) begins alike and is no first line;
// lines of one statement begin with a tab. A zone's name says its offset to nobody but
// who knows the place, so any other than these two leaves the time to the journal.
var Postgres = Format(`^(?:(?P<time>` + date + `(?:\.\d+)?) (?:UTC|GMT)|` + date + `(?:\.\d+)? [A-Za-z0-9+:-]+) .*?(?P<severity>DEBUG|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC)\d?:  `)

// Patroni is its own format, in the host's local time. What it runs (initdb, pg_ctl) and
// its tracebacks belong to the entry before.
var Patroni = Format(`^(?P<time>` + date + `,\d+) (?P<severity>DEBUG|INFO|WARNING|ERROR|CRITICAL): `)

// isReady is what pg_isready says while PostgreSQL starts, among Patroni's lines.
const isReady = `^\S+:\d+ - (?:accepting|rejecting|no) `

// HAProxy is what its processes tell their terminal; what they log has no level.
var HAProxy = Format(`^\[(?P<severity>DIAG|NOTICE|WARNING|ALERT)\]`)

// What HAProxy logs has no level. These are of a server that is gone, of a session that
// ended with an error, the only ones that our configuration lets it log, and of a backend
// with no server left.
const (
	haproxyWarns = `^Server .* is (?:going )?DOWN|^\S+:\d+ \[`
	haproxyFails = `has no server available`
)

// Backup is pgBackRest's file, in the host's local time.
var Backup = Format(`^(?P<time>` + date + `\.\d+) P\d+ +(?P<severity>TRACE|DEBUG|DETAIL|INFO|WARN|ERROR|ASSERT): `)

// backupNoise is what pgBackRest writes between two of its runs.
const backupNoise = `^(?:-+PROCESS START-+|\s*)$`

// PatroniUnit matches the first lines of all that the unit patroni@ writes.
func PatroniUnit() string {
	return Postgres.Shape() + "|" + Patroni.Shape() + "|" + isReady
}

// Shape is the format without the groups' names: an expression has no two groups of one name.
func (f Format) Shape() string {
	return strings.NewReplacer("(?P<time>", "(?:", "(?P<severity>", "(?:").Replace(string(f))
}
