package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseLSN reads a position in WAL as PostgreSQL writes it, such as 0/3000028.
func ParseLSN(s string) (uint64, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, err := strconv.ParseUint(hi, 16, 32)
	l, err2 := strconv.ParseUint(lo, 16, 32)
	if !ok || err != nil || err2 != nil {
		return 0, fmt.Errorf("expected a WAL position such as 0/3000028, found %q", s)
	}
	return h<<32 | l, nil
}

// FormatLSN writes a position in WAL as PostgreSQL does.
func FormatLSN(at uint64) string { return fmt.Sprintf("%X/%X", at>>32, uint32(at)) }

// HistoryName is the name of a timeline's history file.
func HistoryName(timeline uint32) string { return fmt.Sprintf("%08X.history", timeline) }

// Segment is the name of the whole segment that a file of an archive is, as pgBackRest keeps it
// (with a checksum behind the name) or as PostgreSQL does; false: it is none.
func Segment(path string) (name string, is bool) {
	m := segment.FindStringSubmatch(base(path))
	if m == nil {
		return "", false
	}
	return m[1] + m[2] + m[3], true
}

// History is the name of the history file that a file of an archive is; false: it is none.
func History(path string) (name string, is bool) {
	name = base(path)
	return name, history.MatchString(name)
}

// Begin is the timeline of a segment, by its name, and the position at which it begins, where
// segments have a size in bytes.
func Begin(name string, size uint64) (timeline uint32, at uint64, err error) {
	m := segment.FindStringSubmatch(name)
	if m == nil || len(name) != 24 || size == 0 {
		return 0, 0, fmt.Errorf("expected the name of a segment of WAL such as 000000010000000000000002, found %q", name)
	}
	return number(m[1]), uint64(number(m[2]))<<32 + uint64(number(m[3]))*size, nil
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
