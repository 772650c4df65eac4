package desired

import (
	"strings"
	"testing"
)

func TestFreezeDocument(t *testing.T) {
	for text, c := range map[string]struct{ covers, wrong string }{
		"until: 2026-01-31T18:30:00Z":                                      {covers: "haproxy vip"},
		"until: 2026-01-31T18:30:00+02:00\nconcerns: [haproxy]":            {covers: "haproxy"},
		"until: \"2026-01-31T18:30:00Z\"\nconcerns: [all]":                 {covers: "haproxy vip"},
		"until: 2026-02-31T18:30:00Z":                                      {wrong: "until"},
		"until: 2026-01-31":                                                {wrong: "until"},
		"until: 30m":                                                       {wrong: "until"},
		"concerns: [haproxy]":                                              {wrong: "until"},
		"until: 2026-01-31T18:30:00Z\nconcerns: [haprox]":                  {wrong: "concerns"},
		"until: 2026-01-31T18:30:00Z\nreason: " + strings.Repeat("x", 501): {wrong: "reason"},
	} {
		f, err := ReadFreeze([]byte(text))
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %v, want a problem with %s", text, err, c.wrong)
			}
			continue
		}
		var got []string
		for _, concern := range []string{"haproxy", "vip"} {
			if f.Covers(concern) {
				got = append(got, concern)
			}
		}
		if err != nil || strings.Join(got, " ") != c.covers || f.End().IsZero() {
			t.Errorf("%s: covers %v until %v, %v", text, got, f.End(), err)
		}
	}
	if (&Freeze{}).Covers("vip") {
		t.Error("no freeze covers a concern")
	}
}
