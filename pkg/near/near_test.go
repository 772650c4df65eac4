package near

import "testing"

func TestMiss(t *testing.T) {
	names := []string{"address", "roles", "port", "rest_port", "parameters", "PendingRestart"}
	for typed, meant := range map[string]string{
		"adress": "address", "adrdess": "address", "Port": "port", "prot": "port", "param": "parameters", "role": "roles",
		"pending": "PendingRestart", "Pending": "PendingRestart",
	} {
		if got, ok := Miss(typed, names); !ok || got != meant {
			t.Errorf("%s: got %q, want %q", typed, got, meant)
		}
	}
	for _, far := range []string{"x", "", "interface", "p", "port", "r"} {
		if got, ok := Miss(far, names); ok {
			t.Errorf("%s: got %q, want nothing", far, got)
		}
	}
}

func TestPrefixOfSeveralIsNoMiss(t *testing.T) {
	if got, ok := Miss("pg-", []string{"pg-test", "pg-prod"}); ok {
		t.Errorf("got %q, want nothing", got)
	}
}

func TestHint(t *testing.T) {
	names := []string{"address", "roles"}
	for typed, want := range map[string]string{"adress": `did you mean "address"?`, "address": "", "other": ""} {
		if got := Hint(typed, names); got != want {
			t.Errorf("%s: got %q, want %q", typed, got, want)
		}
	}
}
