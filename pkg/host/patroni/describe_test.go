package patroni

import (
	"strings"
	"testing"
)

// TestRefusedParameterNamesFieldAndRange: PostgreSQL's words, the field of the document
// before them, and what PostgreSQL takes or which name was meant.
func TestRefusedParameterNamesFieldAndRange(t *testing.T) {
	for _, c := range []struct {
		name  string
		value any
		want  []string
	}{
		{"max_connections", 9000000, []string{"parameters.max_connections: PostgreSQL: 9000000 is outside the valid range", "(1 .. 262143)"}},
		{"work_mem", "lots", []string{`parameters.work_mem: PostgreSQL: invalid value for parameter "work_mem": "lots"`, "(integer from 64 to 2147483647)"}},
		{"work_mme", "16MB", []string{`parameters.work_mme: PostgreSQL: unrecognized configuration parameter "work_mme"`, `did you mean "work_mem"?`}},
		{"wal_level", "maximal", []string{"parameters.wal_level: ", "Available values: minimal, replica, logical"}},
	} {
		got, err := checkParameters(t.Context(), binDirForTest(t), map[string]any{c.name: c.value})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range c.want {
			if !strings.Contains(strings.Join(got, "; "), w) {
				t.Errorf("%s=%v: %q, want %q", c.name, c.value, got, w)
			}
		}
	}
}
