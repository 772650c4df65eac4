package watch

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// When the kernel dropped events, everybody looks.
func TestOverflowTellsEverybody(t *testing.T) {
	w := New(nil)
	defer w.Close()
	n := 0
	for _, dir := range []string{t.TempDir(), t.TempDir()} {
		w.add(dir, &sub{names: map[string]bool{"x": true}, changed: func() { n++ }})
	}
	b := make([]byte, unix.SizeofInotifyEvent)
	binary.NativeEndian.PutUint32(b, ^uint32(0)) // wd -1
	binary.NativeEndian.PutUint32(b[4:], unix.IN_Q_OVERFLOW)
	for _, tell := range w.take(b) {
		tell()
	}
	if n != 2 {
		t.Errorf("%d of 2 were told", n)
	}
}
