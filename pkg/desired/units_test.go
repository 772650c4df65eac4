package desired

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for in, canonical := range map[string]string{
		"250ms": "250ms", "1000ms": "1s", "90s": "90s", "60s": "1m", "1m30s": "90s", "24h": "24h", "1d": "24h", "0s": "0s", "0ms": "0s",
	} {
		d, err := ParseDuration(in)
		if err != nil || d.String() != canonical {
			t.Errorf("%s: got %s, %v, want %s", in, d, err, canonical)
		}
		if again, _ := ParseDuration(d.String()); again != d {
			t.Errorf("%s: %s is read back as %s", in, d, again)
		}
	}
	for _, bad := range []string{"", "10", "s", "-1s", "1.5s", "1 s", "1S", "999999999999d", "200000d200000d"} {
		if d, err := ParseDuration(bad); err == nil {
			t.Errorf("%q: got %s, want an error", bad, d)
		}
	}
	if d := Duration(1500 * time.Millisecond); d.Milliseconds() != 1500 || d.Seconds() != 1 || d.Std() != 1500*time.Millisecond {
		t.Error("conversions")
	}
}

func TestSize(t *testing.T) {
	for in, canonical := range map[string]string{
		"16MB": "16MB", "1024kB": "1MB", "1023kB": "1023kB", "0B": "0B", "0MB": "0B", "8192B": "8kB", "3TB": "3TB",
	} {
		z, err := ParseSize(in)
		if err != nil || z.String() != canonical {
			t.Errorf("%s: got %s, %v, want %s", in, z, err, canonical)
		}
	}
	for _, bad := range []string{"", "16", "MB", "16mb", "16 MB", "-1MB", "1.5GB", "99999999999TB"} {
		if z, err := ParseSize(bad); err == nil {
			t.Errorf("%q: got %s, want an error", bad, z)
		}
	}
}
