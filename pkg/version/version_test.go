package version

import "testing"

func TestOlder(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"v0.1.0", "v0.2.0", true}, {"v0.10.0", "v0.9.0", false}, {"v0.1.0-3-gabc", "v0.1.0", false},
		{"v0.1.0", "v0.1.1-3-gabc", true}, {"v1.0.0", "v0.9.9", false}, {"v0.9.9", "v1.0.0", true},
		{"dev", "v9.0.0", false}, {"v0.1.0", "dev", false}, {"v0.1.0", "", false}, {"v0.1.0", "v0.1.0", false},
	} {
		if got := Older(c.a, c.b); got != c.want {
			t.Errorf("Older(%q, %q) = %v", c.a, c.b, got)
		}
	}
}
