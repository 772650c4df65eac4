package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/pgctrl/pgctrl/internal/memo"
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
	head, rest, ok := cut(value)
	if !ok {
		return value
	}
	var names []byte
	for _, list := range [][]string{parameterNames(rest), backendNames(rest), pooledNames(rest), addressNames(rest)} {
		names = binary.AppendUvarint(names, uint64(len(list)))
		for _, n := range list {
			names = append(binary.AppendUvarint(names, uint64(len(n))), n...)
		}
	}
	sum := sha256.Sum256(rest)
	start := binary.AppendUvarint(append([]byte{shortMark}, sum[:]...), uint64(len(names)))
	return slices.Concat(start, names, head) // as long as it has to be: a fleet has many
}

// cut parts a stored plan before its resources; false: it is not laid out so.
func cut(value []byte) (head, rest []byte, ok bool) {
	if IsShort(value) {
		return nil, value, true // nobody's plan; it must not be taken for the short form of one
	}
	i := bytes.Index(value, resourcesField)
	if i < 0 {
		return nil, nil, false
	}
	return value[:i], value[i:], true
}

// IsShort reports whether a value, as it is held, is a short form.
func IsShort(held []byte) bool { return len(held) > 0 && held[0] == shortMark }

// Short is a stored plan without its resources.
type Short struct {
	// Plan has no Resources: what they are, the whole plan says.
	Plan
	// Parameters are the PostgreSQL parameters in Patroni's dynamic configuration, and
	// Backends those of HAProxy that have a route, Pooled those of them that lead to
	// poolers. Addresses are the virtual ones, each with its prefix length.
	Parameters, Backends, Pooled, Addresses []string

	held []byte // what it was read from, which is all that Is looks at
	sum  [sha256.Size]byte
}

var errShort = errors.New("the short form of a plan is damaged")

// remembered are short forms as they were read last: all controllers read those of a
// cluster, each of them several times.
var remembered = memo.New[string, answer](256)

type answer struct {
	Short
	err error
}

// ReadShort reads a stored plan in either form. Errors are those of Decode, but a fault
// in the resources is not found. A Short that came with an error still is what it is
// made of: Is can be asked. It may be shared: whoever gets it does not change what it
// points to.
func ReadShort(value []byte) (Short, error) {
	if !IsShort(value) {
		return readShort(value)
	}
	a := remembered.Get(string(value), func() answer {
		s, err := readShort(value)
		return answer{s, err}
	})
	return a.Short, a.err
}

func readShort(value []byte) (s Short, err error) {
	s.held = value
	short := value
	if !IsShort(value) {
		short = Shorten(value)
	}
	if !IsShort(short) { // laid out by somebody else
		if s.Plan, err = Decode(value); err != nil {
			return s, err
		}
		short = Shorten(Encode(s.Plan))
	}
	sum, names, head, err := split(short)
	if err != nil {
		return s, err
	}
	s.sum = [sha256.Size]byte(sum)
	for _, list := range []*[]string{&s.Parameters, &s.Backends, &s.Pooled, &s.Addresses} {
		var n, size uint64
		for n, names, err = number(names); n > 0 && err == nil; n-- {
			if size, names, err = number(names); err == nil {
				*list, names = append(*list, string(names[:size])), names[size:]
			}
		}
		if err != nil {
			return s, err
		}
	}
	s.Plan, err = Decode(append(slices.Clip(head), '}'))
	return s, err
}

// split takes a short form apart.
func split(short []byte) (sum, names, head []byte, err error) {
	if len(short) < 1+sha256.Size {
		return nil, nil, nil, errShort
	}
	size, rest, err := number(short[1+sha256.Size:])
	if err != nil {
		return nil, nil, nil, err
	}
	return short[1 : 1+sha256.Size], rest[:size], rest[size:], nil
}

// number reads a length of something in what follows it.
func number(b []byte) (n uint64, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return 0, nil, errShort
	}
	return n, b[size:], nil
}

// Is reports whether the stored plan is exactly these bytes.
func (s Short) Is(value []byte) bool { return Same(s.held, value) }

// Same reports whether the stored plan of which this is held is exactly these bytes.
func Same(held, value []byte) bool {
	if !IsShort(held) {
		return bytes.Equal(held, value)
	}
	sum, _, head, err := split(held)
	ownHead, rest, ok := cut(value)
	if err != nil || !ok || !bytes.Equal(head, ownHead) {
		return false
	}
	own := sha256.Sum256(rest) // the names follow from these bytes
	return bytes.Equal(sum, own[:])
}

// SameBut reports whether the stored plan says the same as p once strip took away from
// both what is not to count. It must leave the resources alone.
func (s Short) SameBut(strip func(*Plan), p Plan) bool {
	_, rest, _ := cut(Encode(p))
	if s.sum != sha256.Sum256(rest) {
		return false
	}
	p.Resources = nil
	strip(&s.Plan)
	strip(&p)
	return bytes.Equal(Encode(s.Plan), Encode(p))
}
