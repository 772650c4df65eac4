package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// A fleet's plans are hundreds of megabytes, nearly all of it the text of files, and
// a server that finds them in order needs to know no more than that. So it holds each
// in a short form: everything before the resources as it is, a SHA-256 of the rest,
// and the few names out of it that are asked for all the time. Two stored plans are
// the same if and only if their short forms are.
//
// The form is no JSON, so whoever takes it for a plan finds out.
const shortMark = 0

// Shorten is the short form of a stored plan. What is laid out differently than by
// Encode stays whole.
func Shorten(value []byte) []byte {
	i := bytes.Index(value, resourcesField)
	switch {
	case len(value) > 0 && value[0] == shortMark:
		i = 0 // nobody's plan; it must not be taken for the short form of one
	case i < 0:
		return value
	}
	rest := value[i:]
	sum := sha256.Sum256(rest)
	out := append([]byte{shortMark}, sum[:]...)
	for _, names := range [][]string{parameterNames(rest), backendNames(rest), pooledNames(rest)} {
		out = binary.AppendUvarint(out, uint64(len(names)))
		for _, n := range names {
			out = append(binary.AppendUvarint(out, uint64(len(n))), n...)
		}
	}
	return slices.Concat(out, value[:i]) // as long as it has to be: a fleet has many
}

// IsShort reports whether a value, as it is held, is a short form.
func IsShort(held []byte) bool { return len(held) > 0 && held[0] == shortMark }

// Short is a stored plan without its resources.
type Short struct {
	// Plan has no Resources: what they are, the whole plan says.
	Plan
	// Parameters are the PostgreSQL parameters in Patroni's dynamic configuration, and
	// Backends those of HAProxy that have a route; Pooled are those of them that lead to
	// poolers.
	Parameters, Backends, Pooled []string

	held []byte // what it was read from, which is all that Is looks at
	sum  [sha256.Size]byte
}

var errShort = errors.New("the short form of a plan is damaged")

// ReadShort reads a stored plan in either form. Errors are those of Decode, but a fault
// in the resources is not found. A Short that came with an error still is what it is
// made of: Is can be asked.
func ReadShort(value []byte) (s Short, err error) {
	short := value
	if !IsShort(value) {
		short = Shorten(value)
	}
	if !IsShort(short) { // laid out by somebody else
		p, err := Decode(value)
		if err != nil {
			return Short{held: value, Plan: p}, err
		}
		short = Shorten(Encode(p))
	}
	s.held = value
	r := bytes.NewReader(short[1:])
	if _, err := io.ReadFull(r, s.sum[:]); err != nil {
		return s, errShort
	}
	for _, names := range []*[]string{&s.Parameters, &s.Backends, &s.Pooled} {
		if err := readNames(r, names); err != nil {
			return s, err
		}
	}
	s.Plan, err = Decode(append(slices.Clip(short[len(short)-r.Len():]), '}'))
	return s, err
}

func readNames(r *bytes.Reader, out *[]string) error {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > uint64(r.Len()) {
		return errShort
	}
	for range n {
		size, err := binary.ReadUvarint(r)
		if err != nil || size > uint64(r.Len()) {
			return errShort
		}
		name := make([]byte, size)
		_, _ = r.Read(name) // it is as long as was just asked
		*out = append(*out, string(name))
	}
	return nil
}

// Is reports whether the stored plan is exactly these bytes.
func (s Short) Is(value []byte) bool { return Same(s.held, value) }

// Same reports whether the stored plan of which this is held is exactly these bytes.
func Same(held, value []byte) bool {
	if IsShort(held) {
		value = Shorten(value)
	}
	return bytes.Equal(held, value)
}

// SameBut reports whether the stored plan says the same as p once strip took away from
// both what is not to count. It must leave the resources alone.
func (s Short) SameBut(strip func(*Plan), p Plan) bool {
	o, err := ReadShort(Encode(p))
	if err != nil || s.sum != o.sum {
		return false
	}
	strip(&s.Plan)
	strip(&o.Plan)
	return bytes.Equal(Encode(s.Plan), Encode(o.Plan))
}
