package cli

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTableAlignsWhatIsVisible(t *testing.T) {
	s := style{on: true}
	tab := newTable(s, "NAME", ">LAG", "STATE")
	tab.row("a", "0", s.green("running"))
	tab.row("größer", "16 MB", "")
	var b bytes.Buffer
	tab.write(&b)
	want := "\x1b[1mNAME\x1b[0m      \x1b[1mLAG\x1b[0m  \x1b[1mSTATE\x1b[0m\n" +
		"a           0  \x1b[32mrunning\x1b[0m\n" +
		"größer  16 MB\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestTableWrapsTheLastColumnOnATerminal(t *testing.T) {
	tab := newTable(style{width: 42}, "FIELD", "MEANING")
	tab.row("node", "The node it runs on; it never changes: add a member there.")
	var b bytes.Buffer
	tab.write(&b)
	want := "FIELD  MEANING\n" +
		"node   The node it runs on; it never\n" +
		"       changes: add a member there.\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestDidYouMean(t *testing.T) {
	names := []string{"pg-test", "pg-prod", "status"}
	for typed, want := range map[string]string{
		"pg-tset": "; did you mean pg-test?", "stauts": "; did you mean status?", "st": "; did you mean status?",
		"other": "", "pg-test": "", "": "", "xy": "",
	} {
		if got := didYouMean(typed, names); got != want {
			t.Errorf("didYouMean(%q) = %q, want %q", typed, got, want)
		}
	}
}
