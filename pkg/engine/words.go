package engine

import (
	"bytes"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// Which clusters share a node is asked for at every step, and reading the fleet's
// documents each time would make every change cost the square of the fleet. So the
// documents of nodes and members, which are short, have a place for each word in
// them, and of the agents' presence records those that distrust this store. The mirror's snapshots have those places too, so that what is found belongs
// to the same moment as everything else that is read.

const (
	wordIndex = "word/"
	// anyWord is the place of documents that may mean a word they do not spell.
	anyWord = "*"
	// mostWords bounds the places of one document.
	mostWords = 64
	// unplaced is in every member's document, so it has no place.
	unplaced = "node"
	// distrust is the only word that has a place for presence records: the field of an
	// agent which trusts another store than this one. Every cluster's status asks for it.
	distrust = "store"
)

func wordPlace(word string) string { return wordIndex + word + "\x00" }

// wordPlaces are a document's places in the index of words.
func wordPlaces(e kv.KV) []string {
	// A backslash may spell a character of a word as a number.
	if bytes.IndexByte(e.Value, '\\') >= 0 {
		return []string{wordPlace(anyWord) + e.Key}
	}
	var out []string
	for word := range bytes.FieldsFuncSeq(e.Value, func(r rune) bool { return !wordRune(r) }) {
		if len(out) == mostWords {
			return []string{wordPlace(anyWord) + e.Key}
		}
		if place := wordPlace(string(word)) + e.Key; string(word) != unplaced && !slices.Contains(out, place) {
			out = append(out, place)
		}
	}
	return out
}

// distrustPlaces are a presence record's places.
func distrustPlaces(e kv.KV) []string {
	if !bytes.Contains(e.Value, []byte(distrust)) && bytes.IndexByte(e.Value, '\\') < 0 {
		return nil
	}
	return []string{wordPlace(distrust) + e.Key}
}

// wordRune reports whether a node's name may have the character (keys.CheckNode).
func wordRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.'
}

// mentioning finds documents of nodes and members by a word, and presence records by
// one. Everything else is found whatever its words are.
func (a atlas) mentioning(s store.Indexed, prefix, word string) []kv.KV {
	alive, _ := a.family(keys.Alive)
	if presence := strings.HasPrefix(prefix, alive.prefix); word == unplaced || presence && word != distrust {
		return s.Range(prefix)
	}
	out := slices.Concat(s.RangeIndex(wordPlace(word)+prefix), s.RangeIndex(wordPlace(anyWord)+prefix))
	slices.SortFunc(out, func(a, b kv.KV) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Mentioning implements kv.Finder for the documents that have words in the index.
func (d *declared) Mentioning(prefix, word string) []kv.KV {
	return slices.DeleteFunc(d.atlas.mentioning(d.bulk, prefix, word), func(e kv.KV) bool {
		for _, r := range d.readings {
			if tail, ok := r.tail(e.Key); ok && r.admits(tail, d.cluster) {
				return false
			}
		}
		return true
	})
}
