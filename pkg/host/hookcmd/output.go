package hookcmd

import (
	"io"
	"strings"
	"unicode"
)

// OutputKept is how much of a program's output is kept, of both streams together. The journal has
// the rest.
const OutputKept = 8 << 10

// head keeps the beginning of what is written to it, and hands everything on.
type head struct {
	to   io.Writer // may be nil
	kept []byte
	all  int64
}

func (h *head) Write(p []byte) (int, error) {
	h.all += int64(len(p))
	h.kept = append(h.kept, p[:min(len(p), OutputKept-len(h.kept))]...)
	if h.to != nil {
		// A journal that takes nothing must not end a program by the pipe's filling up.
		_, _ = h.to.Write(p)
	}
	return len(p), nil
}

// String is what was kept as text that harms no terminal and no record: valid UTF-8, without
// control characters.
func (h *head) String() string {
	s := strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(h.kept), "\uFFFD"))
	s = strings.TrimSpace(s)
	if h.all > int64(len(h.kept)) {
		s += " …"
	}
	return s
}
