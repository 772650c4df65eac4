package kv

import "bytes"

// Finder is a Snapshot that finds keys by a word in their values without reading
// them all.
type Finder interface {
	Snapshot
	// Mentioning returns the keys under prefix whose values have the word, sorted by
	// key. It may return more: whoever asks looks at the values.
	Mentioning(prefix, word string) []KV
}

// Mentioning returns the keys under prefix whose values may have the word, sorted by
// key: all of those that do, and perhaps others. A snapshot that is no Finder is
// read in full, which is for tests and for commands that read once.
func Mentioning(s Snapshot, prefix, word string) []KV {
	if f, ok := s.(Finder); ok {
		return f.Mentioning(prefix, word)
	}
	var out []KV
	for _, e := range s.Range(prefix) {
		// An escaped word is not spelt as it is meant.
		if bytes.Contains(e.Value, []byte(word)) || bytes.IndexByte(e.Value, '\\') >= 0 {
			out = append(out, e)
		}
	}
	return out
}
