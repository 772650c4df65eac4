package events

import "testing"

func TestIDs(t *testing.T) {
	for _, s := range []string{"1042-0", "1-12"} {
		id, err := ParseID(s)
		if err != nil || id.String() != s {
			t.Errorf("ParseID(%q) = %v, %v", s, id, err)
		}
	}
	for _, s := range []string{"", "12", "-1-0", "0-0", "1-", "1--1", "01-0", "1-00", "1-0 ", "+1-0"} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %v, want an error", s, id)
		}
	}
	if (ID{9, 1}).Compare(ID{10, 0}) >= 0 || (ID{9, 1}).Compare(ID{9, 0}) <= 0 || (ID{9, 1}).Compare(ID{9, 1}) != 0 {
		t.Error("ids are not in the order of revisions and numbers")
	}
}

func TestPatterns(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		kind    Kind
		want    bool
	}{
		{"*", LeaderLost, true}, {"all", LeaderLost, true}, {"al", LeaderLost, false}, {"leader.*", LeaderLost, true}, {"leader.lost", LeaderLost, true},
		{"leader.*", PrimaryConfirmed, false}, {"leader", LeaderLost, false}, {"lead.*", LeaderLost, false},
	} {
		if got := Matches(tc.pattern, tc.kind); got != tc.want {
			t.Errorf("Matches(%q, %s) = %v", tc.pattern, tc.kind, got)
		}
	}
	for pattern, want := range map[string]string{
		"leader.chnged": `unknown kind of event "leader.chnged"; did you mean "leader.changed"?`,
		"gossip":        `unknown kind of event "gossip"; pgctrl explain events lists them`,
	} {
		if err := CheckPattern(pattern); err == nil || err.Error() != want {
			t.Errorf("CheckPattern(%q): %v, want %s", pattern, err, want)
		}
	}
	if err := CheckPattern("vip.*"); err != nil {
		t.Error(err)
	}
}

// Every kind is explained once, with a severity that there is.
func TestKindsAreExplained(t *testing.T) {
	seen := map[Kind]bool{}
	for _, d := range Kinds {
		if seen[d.Kind] || d.Meaning == "" || Severities[d.Severity.Rank()] != d.Severity {
			t.Errorf("%+v", d)
		}
		seen[d.Kind] = true
	}
}
