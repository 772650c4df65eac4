package cli

import "testing"

// TestCauseIsAnEventsName, and anything else in the variable is not taken for one.
func TestCauseIsAnEventsName(t *testing.T) {
	for said, want := range map[string]string{
		"pg-test/42-0": "pg-test/42-0", "_fleet/7-12": "_fleet/7-12",
		"": "", "42-0": "", "pg-test/": "", "pg-test/42": "", "pg-test/42-0\nx": "", "pg-test/042-0": "", "Pg/42-0": "", "_node/42-0": "", "a/b/42-0": "",
	} {
		got := cause(func(name string) string {
			if name != "PGCTRL_CAUSE" {
				t.Errorf("asked for %s", name)
			}
			return said
		})
		if got != want {
			t.Errorf("%q is the cause %q, want %q", said, got, want)
		}
	}
}
