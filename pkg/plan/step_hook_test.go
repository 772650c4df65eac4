package plan

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestHookStepsAreJudgedByWhatTheyNeed: a program that may run anywhere needs nobody's leadership; one
// that is the primary's needs the primary, whatever the epoch.
func TestHookStepsAreJudgedByWhatTheyNeed(t *testing.T) {
	now := time.Now()
	own := Member{Name: "m2", Node: "pg2"}
	view := View{Known: true, FreshAt: now, Store: "S1", UID: "U1", Leader: Leader{Member: "m2", Epoch: 7},
		Primary: &observed.Primary{Member: "m2", Epoch: 7, Writable: true, UID: "U1"}}
	hook := Hook{Name: "page", Program: "page", Event: json.RawMessage(`{}`), EventID: "c/9-0", Kind: "leader.changed",
		Timeout: time.Second, Expires: now.Add(time.Second), Attempt: 1}
	anywhere := Step{Schema: SchemaHooks, Act: ActHook, Cluster: "c", Store: "S1", Hook: &hook}
	primary := anywhere
	primary.Member, primary.UID, primary.Epoch = "m2", "U1", 7
	onPrimary := hook
	onPrimary.Primary = true
	primary.Hook = &onPrimary
	for name, c := range map[string]struct {
		step   Step
		change func(*Step, *Hook, *View, *Member)
		frozen bool
		want   observed.Reason
		wait   bool
	}{
		"anywhere":                          {step: anywhere},
		"on a node without a member":        {step: anywhere, change: func(_ *Step, _ *Hook, v *View, m *Member) { *m, *v = Member{}, View{Store: "S1"} }},
		"while it is frozen":                {step: anywhere, frozen: true},
		"while Patroni is paused":           {step: anywhere, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.Paused = true }},
		"while nobody leads":                {step: anywhere, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.Leader = Leader{} }},
		"with a stale view":                 {step: anywhere, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.FreshAt = now.Add(-time.Hour) }},
		"of another etcd":                   {step: anywhere, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.Store = "S2" }, want: observed.StoreChanged},
		"at the last moment":                {step: anywhere, change: func(_ *Step, h *Hook, _ *View, _ *Member) { h.Expires = now }},
		"past it":                           {step: anywhere, change: func(_ *Step, h *Hook, _ *View, _ *Member) { h.Expires = now.Add(-1) }, want: observed.DeadlineExceeded},
		"of nothing":                        {step: anywhere, change: func(s *Step, _ *Hook, _ *View, _ *Member) { s.Hook = nil }, want: observed.NotPlanned},
		"of a later version":                {step: anywhere, change: func(s *Step, _ *Hook, _ *View, _ *Member) { s.Schema = Schema + 1 }, want: observed.UnsupportedSchema},
		"out of the folder":                 {step: anywhere, change: func(_ *Step, h *Hook, _ *View, _ *Member) { h.Program = "../page" }, want: observed.NotPlanned},
		"on the primary":                    {step: primary},
		"on the primary, frozen":            {step: primary, frozen: true},
		"on the primary, paused":            {step: primary, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.Paused = true }},
		"on the primary at a later epoch":   {step: primary, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.Leader.Epoch, v.Primary.Epoch = 9, 9 }},
		"on the primary, the view is stale": {step: primary, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.FreshAt = now.Add(-time.Hour) }, wait: true},
		"on a former primary":               {step: primary, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.Leader = Leader{Member: "m1", Epoch: 9} }, want: observed.NotLeader},
		"on the primary that leads no more": {step: primary, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.Leader = Leader{Epoch: 9} }, want: observed.NotLeader},
		"on a leader that is not confirmed": {step: primary, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.Primary = nil }, want: observed.NotLeader},
		"on the primary, another's node":    {step: primary, change: func(_ *Step, _ *Hook, _ *View, m *Member) { m.Name = "m3" }, want: observed.NotLeader},
		"on the primary, nobody's node":     {step: primary, change: func(_ *Step, _ *Hook, _ *View, m *Member) { *m = Member{} }, want: observed.NotLeader},
		"on the primary of an earlier c":    {step: primary, change: func(_ *Step, _ *Hook, v *View, _ *Member) { v.UID, v.Primary.UID = "U2", "U2" }, want: observed.StoreChanged},
	} {
		s, v, m := c.step, view, own
		h, p := *s.Hook, *view.Primary
		s.Hook, v.Primary = &h, &p
		if c.change != nil {
			c.change(&s, &h, &v, &m)
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

func TestHookValid(t *testing.T) {
	for name, spoil := range map[string]func(*Hook){
		"no name":            func(h *Hook) { h.Name = "" },
		"a path for a name":  func(h *Hook) { h.Name = "a/b" },
		"no program":         func(h *Hook) { h.Program = "" },
		"a program above":    func(h *Hook) { h.Program = "/etc/pgctrl/hooks/../x" },
		"a zero byte":        func(h *Hook) { h.Arguments = []string{"a\x00b"} },
		"too many arguments": func(h *Hook) { h.Arguments = []string{strings.Repeat("x", HookArguments)} },
		"no event":           func(h *Hook) { h.Event = nil },
		"half an event":      func(h *Hook) { h.Event = json.RawMessage(`{"kind":`) },
		"a large event":      func(h *Hook) { h.Event = json.RawMessage(`"` + strings.Repeat("x", HookEvent) + `"`) },
		"no event's name":    func(h *Hook) { h.EventID = "42-0" },
		"no kind":            func(h *Hook) { h.Kind = "" },
		"no time":            func(h *Hook) { h.Timeout = 0 },
		"all day":            func(h *Hook) { h.Timeout = 24 * time.Hour },
		"for ever":           func(h *Hook) { h.Expires = time.Time{} },
	} {
		h := Hook{Name: "page", Program: "/etc/pgctrl/hooks/page", Arguments: []string{"a b"}, Event: json.RawMessage(`{"a":1}`), EventID: "_fleet/9-0",
			Kind: "leader.changed", Timeout: time.Second, Expires: time.Now(), Attempt: 1}
		if !h.Valid() {
			t.Fatalf("%+v is not valid", h)
		}
		if spoil(&h); h.Valid() {
			t.Errorf("%s: valid", name)
		}
	}
}
