package postgres

import "testing"

func TestMegabytes(t *testing.T) {
	for s, want := range map[string]uint64{"16MB": 16 << 20, "1GB": 1 << 30, "": 0, "16": 0, "kB": 0, "0MB": 0} {
		if got, err := megabytes(s); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
}
