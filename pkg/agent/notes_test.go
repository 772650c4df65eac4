package agent

import (
	"strings"
	"testing"
	"time"
)

// TestClockNote: what is near a step is not said and taken back in turns (R8), although the
// measure is right to half a second only.
func TestClockNote(t *testing.T) {
	n := noted{}
	for i, c := range []struct {
		ahead time.Duration
		want  string
	}{
		{0, ""}, {1900 * time.Millisecond, ""}, {-1900 * time.Millisecond, ""},
		{2100 * time.Millisecond, "pg1 is about 2s or more ahead of that"},
		{1600 * time.Millisecond, "2s or more ahead"}, {2400 * time.Millisecond, "2s or more ahead"},
		{900 * time.Millisecond, ""}, {1600 * time.Millisecond, ""},
		{-7400 * time.Millisecond, "5s or more behind"}, {-4600 * time.Millisecond, "5s or more behind"}, {-3 * time.Second, "2s or more behind"},
		{40 * time.Minute, "5m0s or more ahead"},
	} {
		got := ""
		if c := n.clock("pg1", "http://etcd:2379", c.ahead); c != nil {
			got = c.Message
		}
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%d: %s: %q, want %q", i, c.ahead, got, c.want)
		}
	}
}

// TestRoomNote: in steps, so that a disk that fills is no stream of writes (R8).
func TestRoomNote(t *testing.T) {
	const gb = 1 << 30
	n := noted{}
	said := map[string]bool{}
	last, changes := "", 0
	for free := uint64(100 * gb); ; free -= gb / 4 {
		for _, f := range []uint64{free, free + gb/8, free} { // WAL comes and goes
			got := ""
			if c := n.room("pg1", "m1", Room{Folder: "wal", Free: f, Size: 100 * gb}); c != nil {
				got = c.Message
			}
			if got == "" && f < 10*gb || got != "" && f > 10*gb {
				t.Fatalf("of %d bytes it is said %q", f, got)
			}
			if got != last {
				changes++
			}
			last, said[got] = got, true
		}
		if free == 0 {
			break
		}
	}
	if changes != len(roomSteps) || !said["about 1 % or less of the room is left where m1 has its WAL"] {
		t.Errorf("%d changes, said: %v", changes, said)
	}
	if c := n.room("pg1", "m1", Room{Folder: "data", Free: 50, Size: 100, Inodes: 40, Most: 1000}); c == nil || !strings.Contains(c.Message, "5 % or less of the number of files is left where m1 has its data") {
		t.Errorf("inodes: %v", c)
	}
	if c := n.room("pg1", "m1", Room{Folder: "other"}); c != nil {
		t.Errorf("a file system that says nothing: %s", c.Message)
	}
}
