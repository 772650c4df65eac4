package plan

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestR14StepsLookFirst: an act takes place only under the leadership that was looked
// at, and nothing is ever copied over the leader's own data.
func TestR14StepsLookFirst(t *testing.T) {
	now := time.Now()
	own := Member{Name: "m2", Node: "pg2"}
	view := View{Known: true, FreshAt: now, Store: "S1", UID: "U1", Leader: Leader{Member: "m1", Epoch: 7}}
	step := Step{Schema: Schema, Act: ActReinit, Cluster: "c", Member: "m2", Store: "S1", UID: "U1", Epoch: 7}
	for name, c := range map[string]struct {
		change func(*Step, *View, *Member)
		frozen bool
		want   observed.Reason
		wait   bool
	}{
		"a replica's copy":                {},
		"a replica's restart":             {change: func(s *Step, _ *View, _ *Member) { s.Act = ActRestart }},
		"the leader's restart":            {change: func(s *Step, v *View, _ *Member) { s.Act, v.Leader.Member = ActRestart, "m2" }},
		"the leader's data":               {change: func(_ *Step, v *View, _ *Member) { v.Leader.Member = "m2" }, want: observed.Leading},
		"another leader since":            {change: func(_ *Step, v *View, _ *Member) { v.Leader = Leader{Member: "m3", Epoch: 9} }, want: observed.LeaderChanged},
		"the same leader at a new epoch":  {change: func(_ *Step, v *View, _ *Member) { v.Leader.Epoch = 9 }, want: observed.LeaderChanged},
		"nobody leads":                    {change: func(_ *Step, v *View, _ *Member) { v.Leader.Member = "" }, want: observed.NoLeader},
		"a stale view":                    {change: func(_ *Step, v *View, _ *Member) { v.FreshAt = now.Add(-FreshFor - 1) }, wait: true},
		"nothing known":                   {change: func(_ *Step, v *View, _ *Member) { v.Known = false }, wait: true},
		"another etcd":                    {change: func(_ *Step, v *View, _ *Member) { v.Store = "S2" }, want: observed.StoreChanged},
		"an earlier cluster of this name": {change: func(_ *Step, v *View, _ *Member) { v.UID = "U2" }, want: observed.StoreChanged},
		"a view of no cluster":            {change: func(_ *Step, v *View, _ *Member) { v.UID = "" }, want: observed.StoreChanged},
		"another member's node":           {change: func(_ *Step, _ *View, m *Member) { m.Name = "m3" }, want: observed.NotPlanned},
		"a node without a member":         {change: func(s *Step, _ *View, m *Member) { s.Member, m.Name = "", "" }, want: observed.NotPlanned},
		"Patroni's pause":                 {change: func(_ *Step, v *View, _ *Member) { v.Paused = true }, want: observed.PatroniPaused},
		"a frozen member":                 {frozen: true, want: observed.Frozen},
		"an act of a later version":       {change: func(s *Step, _ *View, _ *Member) { s.Act = "format" }, want: observed.UnsupportedSchema},
		"a later schema":                  {change: func(s *Step, _ *View, _ *Member) { s.Schema++ }, want: observed.UnsupportedSchema},
	} {
		s, v, m := step, view, own
		if c.change != nil {
			c.change(&s, &v, &m)
		}
		no, wait := JudgeStep(s, m, c.frozen, v, now)
		got := observed.Reason("")
		if no != nil {
			got = no.Reason
		}
		if got != c.want || wait != c.wait || no != nil && (no.State != observed.StepRefused || no.Message == "" || no.Next == "") {
			t.Errorf("%s: %+v, wait %v; want %q, wait %v", name, no, wait, c.want, c.wait)
		}
	}
}
