package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
)

func TestAddFreeze(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration, concerns ...string) desired.Freeze {
		return desired.Freeze{Until: now.Add(d).Format(time.RFC3339), Concerns: concerns}
	}
	for name, c := range map[string]struct {
		old, next, want desired.Freeze
	}{
		"none before":         {desired.Freeze{}, at(time.Hour, "vip"), at(time.Hour, "vip")},
		"an old one is over":  {at(-time.Minute), at(time.Hour, "vip"), at(time.Hour, "vip")},
		"the same, shorter":   {at(time.Hour, "vip"), at(time.Minute, "vip"), at(time.Minute, "vip")},
		"a further concern":   {at(time.Hour, "vip"), at(time.Minute, "haproxy"), at(time.Hour, "haproxy", "vip")},
		"everything, shorter": {at(time.Hour), at(time.Minute), at(time.Minute)},
		"one of everything":   {at(time.Hour, "all"), at(2*time.Hour, "vip"), at(2 * time.Hour)},
		"everything now":      {at(time.Hour, "vip"), at(time.Minute), at(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			got := addFreeze(c.old, c.next, now)
			if got.Until != c.want.Until || strings.Join(got.Concerns, ",") != strings.Join(c.want.Concerns, ",") {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestFreezeTextKeepsWords(t *testing.T) {
	want := desired.Freeze{Until: "2026-01-31T18:30:00Z", Owner: "o'brien@db: 1", Reason: `# it's "off", [x]`, Concerns: []string{"vip"}}
	text, err := freezeText("freeze", want)
	if err != nil {
		t.Fatal(err)
	}
	got := readFreeze(text)
	if got.Owner != want.Owner || got.Reason != want.Reason || got.Until != want.Until || len(got.Concerns) != 1 {
		t.Errorf("%s\nis read as %+v", text, got)
	}
}
