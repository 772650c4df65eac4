package desired

import "testing"

// TestSettingsAreJudged: the words; that the verdicts are PostgreSQL's own is tried on
// a real one (pkg/host/postgres).
func TestSettingsAreJudged(t *testing.T) {
	server := []Setting{
		{Name: "work_mem", Type: "integer", Unit: "kB", Min: "64", Max: "2147483647", Context: "user"},
		{Name: "shared_buffers", Type: "integer", Unit: "8kB", Min: "16", Max: "1073741823", Context: "postmaster"},
		{Name: "jit", Type: "bool", Context: "user"},
		{Name: "wal_compression", Type: "enum", Enum: []string{"pglz", "on", "off"}, Context: "superuser"},
		{Name: "random_page_cost", Type: "real", Min: "0", Max: "1.79769e+308", Context: "user"},
		{Name: "block_size", Type: "integer", Min: "8192", Max: "8192", Context: "internal"},
		{Name: "cron.host", Type: "string", Context: "postmaster"},
	}
	for _, c := range []struct{ name, value, wrong, hint string }{
		{"work_mem", "16MB", "", ""},
		{"work_mem", "64", "", ""},
		{"work_mem", "16mb", "expected a whole number from 64 to 2147483647, counted in kB or with a unit (B, kB, MB, GB, TB), found \"16mb\"", `did you mean "16MB"?`},
		{"shared_buffers", "128kB", "", ""},
		{"shared_buffers", "64kB", "expected a whole number from 16 to 1073741823, counted in 8kB or with a unit (B, kB, MB, GB, TB), found \"64kB\"", ""},
		{"jit", "off", "", ""},
		{"jit", "false", "", ""},
		{"jit", "onn", `expected on or off, found "onn"`, `did you mean "on"?`},
		{"wal_compression", "pgls", `expected one of pglz, on, off, found "pgls"`, `did you mean "pglz"?`},
		{"wal_compression", "true", "", ""},
		{"random_page_cost", "1.1", "", ""},
		{"random_page_cost", "-1", "expected a number from 0 to 1.79769e+308, found -1", ""},
		{"block_size", "8192", "PostgreSQL decides this parameter itself; nobody sets it", ""},
		{"cron.hots", "x", `the running PostgreSQL has no parameter "cron.hots"`, `did you mean "cron.host"?`},
		{"timescaledb.max", "5", "", ""}, // a library that is not loaded has not said
	} {
		got := JudgeParameters("k", []FieldChange{{Field: "parameters." + c.name, New: c.value}}, server)
		switch {
		case c.wrong == "" && len(got) > 0:
			t.Errorf("%s=%s: %v", c.name, c.value, got)
		case c.wrong != "" && (len(got) != 1 || got[0].Message != c.wrong || got[0].Suggestion != c.hint || got[0].Field != "parameters."+c.name):
			t.Errorf("%s=%s:\n got %q\nwant %q; %s", c.name, c.value, got, c.wrong, c.hint)
		}
	}
	if got := JudgeParameters("k", []FieldChange{{Field: "ttl", New: "1m"}, {Field: "parameters.work_mem", Old: "1MB"}}, server); len(got) > 0 {
		t.Errorf("no parameter is set: %v", got)
	}
}
