package agenttest

import (
	"slices"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// InPlaceHost is a host whose data directory a test looks into.
type InPlaceHost struct {
	InPlace agent.InPlace
	// Restore is what the acts are about; its data directory has data that say "former", and
	// Patroni runs.
	Restore plan.Restore
	// Put makes a data directory with data that can be told apart, Data is what a directory has,
	// empty without one, and Up whether Patroni runs.
	Put  func(dir, data string)
	Data func(dir string) string
	Up   func() bool
}

// InPlaceConformance is the table that the fake and the real one both have to pass: what each
// act leaves, done once and again, and that nothing but Discard loses anything.
func InPlaceConformance(t *testing.T, h InPlaceHost) {
	ctx, p, r := t.Context(), h.InPlace, h.Restore
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	is := func(when string, up bool, data, before, undone string) {
		t.Helper()
		if d, b, u := h.Data(r.Data), h.Data(r.Before()), h.Data(r.Undone()); d != data || b != before || u != undone || h.Up() != up {
			t.Fatalf("%s: data %q, before %q, undone %q, up %t; want %q, %q, %q, %t", when, d, b, u, h.Up(), data, before, undone, up)
		}
	}
	aside := func(when, want string) {
		t.Helper()
		where, err := p.Aside(ctx, "c", r)
		if do(when, err); where != want {
			t.Fatalf("%s: set aside to %q, want %q", when, where, want)
		}
	}
	do("can swap", p.CanSwap(r))
	do("runs", p.Runs(ctx, "c"))
	if err := p.Swap(ctx, "c", r); err == nil {
		t.Fatal("nothing was prepared, and it was swapped")
	}
	is("nothing was prepared", true, "former", "", "")

	for _, when := range []string{"aside", "aside again"} {
		aside(when, r.Before())
		is(when, false, "", "former", "")
	}
	if err := p.Runs(ctx, "c"); err == nil {
		t.Error("it runs")
	}
	h.Put(r.Data, "copied by a boot")
	aside("after a boot", r.Before()+"-2")
	is("after a boot", false, "", "former", "")
	for _, when := range []string{"back", "back again"} {
		do(when, p.Back(ctx, "c", r))
		is(when, false, "former", "", "")
	}
	do("start", p.Start(ctx, "c"))
	is("started", true, "former", "", "")

	h.Put(r.Prepared()+"/data", "restored")
	for _, when := range []string{"swap", "swap again"} {
		do(when, p.Swap(ctx, "c", r))
		is(when, false, "restored", "former", "")
	}
	do("start", p.Start(ctx, "c"))
	do("back", p.Back(ctx, "c", r))
	is("undone", false, "former", "", "restored")
	do("start", p.Start(ctx, "c"))

	removed, err := p.Discard(r)
	do("discard", err)
	for _, dir := range []string{r.Undone(), r.Before() + "-2"} {
		if !slices.Contains(removed, dir) || h.Data(dir) != "" {
			t.Errorf("%s was not removed: %v", dir, removed)
		}
	}
	is("discarded", true, "former", "", "")
	aside("the only data", r.Before())
	if _, err := p.Discard(r); err == nil {
		t.Error("the only data were discarded")
	}
	is("the only data", false, "", "former", "")
}
