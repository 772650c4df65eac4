package pgbackrest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/wal"
)

const mb16 = 16 << 20

// newcomer: 100 GB of which a backup was made that ended at 1/3000088, and 10 GB of WAL since.
func newcomer() Newcomer {
	return Newcomer{
		Processes: 2,
		Primary:   postgres.Upstream{System: "7", Timeline: 1, Position: 1<<32 + 10<<30, Segment: mb16},
		Repository: &observed.Repository{Stanza: true, Backups: []observed.Backup{
			{Label: "20261125-010000F", FirstWAL: "000000010000000000000002", LastWAL: "000000010000000000000003", Size: 90 << 30},
			{Label: "20261126-010000F", FirstWAL: "000000010000000100000002", LastWAL: "000000010000000100000003", Size: 100 << 30},
		}},
	}
}

func TestChoose(t *testing.T) {
	last := func(n *Newcomer) *observed.Backup { return &n.Repository.Backups[len(n.Repository.Backups)-1] }
	for name, c := range map[string]struct {
		change func(*Newcomer)
		label  string
		why    string
	}{
		"large, little WAL":      {func(*Newcomer) {}, "20261126-010000F", ""},
		"no stanza":              {func(n *Newcomer) { n.Repository.Stanza = false }, "", "no backup of this database"},
		"no backup":              {func(n *Newcomer) { n.Repository.Backups = nil }, "", "no backup of this database"},
		"the newest is damaged":  {func(n *Newcomer) { last(n).Damaged = true }, "20261125-010000F", ""},
		"small":                  {func(n *Newcomer) { last(n).Size = 1 << 30 }, "", "the database is 1.0 GB"},
		"small, always":          {func(n *Newcomer) { last(n).Size, n.Always = 1<<30, true }, "20261126-010000F", ""},
		"half of it is WAL":      {func(n *Newcomer) { n.Primary.Position = 1<<32 + 2*mb16 + 50<<30 }, "20261126-010000F", ""},
		"more than half":         {func(n *Newcomer) { n.Primary.Position = 1<<32 + 2*mb16 + 50<<30 + 1 }, "", "50 GB of WAL were written since backup 20261126-010000F"},
		"more than half, always": {func(n *Newcomer) { n.Primary.Position, n.Always = 1<<40, true }, "20261126-010000F", ""},
		"one process":            {func(n *Newcomer) { n.Processes = 1 }, "", "process_max is 1"},
		"a later timeline": {func(n *Newcomer) {
			n.Primary.Timeline, n.Primary.History = 2, []wal.Switch{{Timeline: 1, LSN: 1<<32 + 4*mb16}}
		}, "20261126-010000F", ""},
		"forked off before its end": {func(n *Newcomer) {
			n.Primary.Timeline, n.Primary.History = 2, []wal.Switch{{Timeline: 1, LSN: 1<<32 + 4*mb16 - 1}}
		}, "", "which the primary's timeline 2 has not come from"},
		"its end is known": {func(n *Newcomer) {
			last(n).StopLSN = "1/3000088"
			n.Primary.Timeline, n.Primary.History = 2, []wal.Switch{{Timeline: 1, LSN: 1<<32 + 3*mb16 + 0x88}}
		}, "20261126-010000F", ""},
		"of another timeline, always": {func(n *Newcomer) {
			n.Always = true
			n.Primary.Timeline, n.Primary.History = 3, []wal.Switch{{Timeline: 2, LSN: 1 << 40}}
		}, "", "which the primary's timeline 3 has not come from"},
		"the primary is behind it": {func(n *Newcomer) { n.Primary.Position, n.Always = 1<<32, true }, "", "which the primary's timeline 1 has not come from"},
		"no segment":               {func(n *Newcomer) { last(n).FirstWAL = "x" }, "", `found "x"`},
	} {
		n := newcomer()
		c.change(&n)
		b, why := Choose(n)
		if c.why == "" && (why != "" || b.Label != c.label) || c.why != "" && !strings.Contains(why, c.why) {
			t.Errorf("%s: %s, %q", name, b.Label, why)
		}
	}
}

func TestWhole(t *testing.T) {
	names := func(timeline, from, to int) (out []string) {
		for i := from; i <= to; i++ {
			out = append(out, fmt.Sprintf("%08X%08X%08X", timeline, i/256, i%256))
		}
		return out
	}
	first := names(1, 250, 250)[0]
	for name, c := range map[string]struct {
		archived []string
		lacks    string
	}{
		"all of one timeline": {names(1, 200, 300), ""},
		"two timelines":       {append(names(1, 200, 260), names(2, 260, 300)...), ""},
		"a gap":               {append(names(1, 200, 260), names(1, 262, 300)...), "1/5000000"},
		"a gap at the fork":   {append(names(1, 200, 260), names(2, 262, 300)...), "1/5000000"},
		"without the first":   {names(1, 251, 300), "0/FA000000"},
		"nothing":             {nil, "0/FA000000"},
		"a gap before it":     {append(names(1, 200, 220), names(1, 250, 300)...), ""},
		"other files":         {append(names(1, 250, 251), "00000002.history"), ""},
	} {
		if got := Whole(first, c.archived, mb16); c.lacks == "" && got != "" || c.lacks != "" && !strings.Contains(got, "at "+c.lacks+",") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestSlowRestoreIsEnded: also one that was fast before.
func TestSlowRestoreIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancelCause(t.Context())
		done := int64(0)
		go keepPace(ctx, stop, time.Minute, 100, func() int64 { return done })
		for range 5 {
			done += 100
			time.Sleep(time.Minute)
			synctest.Wait()
			if ctx.Err() != nil {
				t.Fatal("it was ended although it got on")
			}
		}
		done += 99
		time.Sleep(time.Minute)
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), ErrPace) {
			t.Error("it goes on for ever")
		}
	})
}
