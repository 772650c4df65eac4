package verdicts

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

var (
	l   = keys.Default
	now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func hook(name string, s State, onTimeout string, left time.Duration) Hook {
	return Hook{Name: name, State: s, OnTimeout: onTimeout, WithinMS: 30_000, Deadline: now.Add(left)}
}

func TestJudge(t *testing.T) {
	const soon, over = time.Second, 0
	for _, tc := range []struct {
		name string
		said []Hook
		want string // the verdict, by whom, and the hooks
	}{
		{"nobody has said anything", []Hook{hook("a", Asking, "refuse", soon)}, "asking: a asking"},
		{"one is not enough", []Hook{hook("a", Allowed, "refuse", soon), hook("b", Delayed, "refuse", soon)}, "asking: a allowed, b delayed"},
		{"all allow it", []Hook{hook("a", Allowed, "refuse", soon), hook("b", Allowed, "allow", soon)}, "allowed by all hooks: a allowed, b allowed"},
		{"one refuses, and the others are not waited for", []Hook{hook("a", Asking, "allow", soon), hook("b", Refused, "allow", soon)}, "refused by hook b: a asking, b refused"},
		{"a failure is no answer", []Hook{hook("a", Failed, "allow", soon)}, "asking: a failed"},
		{"no answer means no", []Hook{hook("a", Failed, "refuse", over)}, "refused by hook a: a timeout"},
		{"no answer means yes", []Hook{hook("a", Delayed, "allow", over)}, "allowed by all hooks: a timeout"},
		{"what means neither means no", []Hook{hook("a", Asking, "alow", over)}, "refused by hook a: a timeout"},
		{"no answer means yes, and another is asked", []Hook{hook("a", Asking, "allow", over), hook("b", Asking, "refuse", soon)}, "asking: a timeout, b asking"},
		{"an answer counts beyond its deadline", []Hook{hook("a", Allowed, "refuse", over)}, "allowed by all hooks: a allowed"},
		{"the first that refuses is named", []Hook{hook("a", Asking, "refuse", over), hook("b", Refused, "refuse", soon)}, "refused by hook a: a timeout, b refused"},
		{"nobody is left to say no", nil, "allowed by all hooks: "},
	} {
		before := fmt.Sprint(tc.said)
		got := Judge(Verdict{State: Asking}, tc.said, now)
		if s := spell(got); s != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, s, tc.want)
		}
		if fmt.Sprint(tc.said) != before {
			t.Errorf("%s: what was said was changed", tc.name)
		}
		if again := Judge(got, []Hook{hook("z", Refused, "refuse", soon)}, now); got.State.Final() && !reflect.DeepEqual(again, got) {
			t.Errorf("%s: a final verdict changed to %s", tc.name, spell(again))
		}
	}
}

func spell(v Verdict) string {
	var hs []string
	for _, h := range v.Hooks {
		hs = append(hs, h.String()+" "+string(h.State))
	}
	by := ""
	if v.DecidedBy != "" {
		by = " by " + v.DecidedBy
	}
	return string(v.State) + by + ": " + strings.Join(hs, ", ")
}

func TestOverdue(t *testing.T) {
	v := Verdict{State: Asking, Operation: Restart, Cluster: "c", Subject: "c-1", Hooks: []Hook{hook("a", Allowed, "refuse", time.Hour), hook("b", Asking, "allow", time.Hour)}}
	got := Overdue(v, "no server runs", now)
	if spell(got) != "allowed by all hooks: a allowed, b timeout" || got.Hooks[1].Message != "no server runs" {
		t.Errorf("%+v", got)
	}
	v.Hooks[1].OnTimeout, v.Hooks[1].Message = "refuse", "it answers 500"
	got = Overdue(v, "no server runs", now)
	if want := "hook b gave no answer to restart of c-1 (c) (no server runs: it answers 500), and on_timeout says that this means no"; got.Words() != want {
		t.Errorf("%s\nwant %s", got.Words(), want)
	}
}

func TestNew(t *testing.T) {
	docs := []kv.KV{
		{Key: l.ClusterDoc("c", "hooks/b"), Value: []byte("webhook: {url: http://localhost:1}\nbefore: [restart, remove]\ndeadline: 10s")},
		{Key: l.ClusterDoc("c", "hooks/off"), Value: []byte("webhook: {url: http://localhost:1}\nbefore: [restart]\nenabled: false")},
		{Key: l.ClusterDoc("c", "hooks/other"), Value: []byte("webhook: {url: http://localhost:1}\nbefore: [reinit]")},
		{Key: l.ClusterDoc("c", "hooks/wrong"), Value: []byte("webhook: {url: http://localhost:1}\nbefore: [restrat]")},
		{Key: l.ClusterDoc("c", "hooks/telling"), Value: []byte("webhook: {url: nowhere}\nevents: [\"*\"]")},
		{Key: l.FleetHook("a"), Value: []byte("command: {program: ask}\nbefore: [restart]\non_timeout: allow")},
	}
	ask, unusable := Asked(l, docs, Restart)
	if len(unusable) != 1 || unusable[0].String() != "wrong" {
		t.Errorf("can't be used: %v", unusable)
	}
	v := New(l, Verdict{Cluster: "c", Operation: Restart, By: "me"}, ask, now)
	if spell(v) != "asking: b asking, a (fleet) asking" || v.ID != "restart-mm7p6yo0" || !v.Deadline.Equal(now.Add(30*time.Second)) ||
		!v.Hooks[0].Deadline.Equal(now.Add(10*time.Second)) || v.Hooks[1].OnTimeout != "allow" || v.Hooks[0].Within() != 10*time.Second {
		t.Errorf("%s %+v", spell(v), v)
	}
	if v.Hooks[0].Key(l, "c") != docs[0].Key || v.Hooks[1].Key(l, "c") != docs[5].Key {
		t.Errorf("the documents are %s and %s", v.Hooks[0].Key(l, "c"), v.Hooks[1].Key(l, "c"))
	}
	if o := Override(v, "me"); !o.Overridden() || v.Overridden() || o.State != Allowed {
		t.Errorf("%+v", o)
	}
	if v.Outlived(v.Deadline.Add(Kept)) || !v.Outlived(v.Deadline.Add(Kept+1)) || v.Abandoned(v.Deadline.Add(time.Minute)) || !v.Abandoned(v.Deadline.Add(time.Hour)) {
		t.Error("how long a record is of use")
	}
}

// The operations are those that documents name.
func TestOperationsAreThoseOfDocuments(t *testing.T) {
	for _, op := range []string{Switchover, Restart, Reinit, Restore, Remove} {
		h, problems := desired.ReadHook(l, kv.KV{Key: l.FleetHook("a"), Value: []byte("command: {program: ask}\nbefore: [" + op + "]")})
		if h == nil {
			t.Errorf("%s: %v", op, problems)
		}
	}
}

func TestReadHTTP(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tc := range []struct {
		status int
		retry  string
		body   string
		want   string
	}{
		{200, "", "", "allowed"},
		{204, "", " \n", "allowed"},
		{200, "", `{"verdict":"allow"}`, "allowed"},
		{200, "", `{"verdict":"refuse","message":"a deploy\u001b[2J runs"}`, "refused: a deploy [2J runs"},
		{200, "", `{"verdict":"delay","after":"10s","message":"soon"}`, "delayed 10s: soon"},
		{200, "", `{"verdict":"delay"}`, "delayed 5s"},
		{200, "", `{"verdict":"delay","after":"0s"}`, "delayed 200ms"},
		{200, "7", `{"verdict":"delay","after":"often"}`, "delayed 7s"},
		{200, "", `{"verdict":"deny"}`, `failed: the receiver answers 200 with something that is no verdict: {"verdict":"deny"}`},
		{200, "", "<html>ok</html>", "failed: the receiver answers 200 with something that is no verdict: <html>ok</html>"},
		{202, "3", "", "delayed 3s"},
		{202, "", "", "delayed 5s"},
		{202, "", `{"verdict":"refuse"}`, "refused"},
		{403, "", "not in office hours\nreally", "refused: not in office hours really"},
		{409, "", `{"message":"a deploy runs"}`, "refused: a deploy runs"},
		{403, "", `{"verdict":"allow"}`, "refused"},
		{409, "", long, "refused: " + long[:200]},
		{429, "2", "", "delayed 2s"},
		{503, "86400", "later", "delayed 1h0m0s: later"},
		{503, "", "down", "failed: the receiver answers 503: down"},
		{429, "Fri, 27 Nov 2026 17:00:00 GMT", "", "failed: the receiver answers 429"},
		{500, "", `{"verdict":"allow"}`, "failed: the receiver answers 500"},
		{404, "", "", "failed: the receiver answers 404"},
	} {
		if got := answered(ReadHTTP(tc.status, tc.retry, []byte(tc.body), true)); got != tc.want {
			t.Errorf("%d %s %s:\n got %s\nwant %s", tc.status, tc.retry, tc.body, got, tc.want)
		}
	}
	// A body that was cut is understood in nothing that it says, and a refusal is one all the same.
	if a := ReadHTTP(200, "", []byte(`{"verdict":"allow"}`), false); a.State != Failed {
		t.Errorf("%+v", a)
	}
	if a := ReadHTTP(403, "", []byte(`no`), false); a.State != Refused || a.Message != "no" {
		t.Errorf("%+v", a)
	}
}

func answered(a Answer) string {
	out := string(a.State)
	if a.State == Delayed {
		out += " " + a.After.String()
	}
	if a.Message != "" {
		out += ": " + a.Message
	}
	return out
}

func TestReadExit(t *testing.T) {
	for _, tc := range []struct {
		code   int
		output string
		want   string
	}{
		{0, "", "allowed"},
		{1, "\nnot now\ntraceback", "refused: not now"},
		{75, "wait", "delayed 5s: wait"},
		{2, "usage", "failed: the program ended with exit code 2: usage"},
		{127, "", "failed: the program ended with exit code 127"},
	} {
		if got := answered(ReadExit(tc.code, tc.output)); got != tc.want {
			t.Errorf("%d: got %s, want %s", tc.code, got, tc.want)
		}
	}
}

func TestWait(t *testing.T) {
	var got []time.Duration
	for _, try := range []int{0, 1, 2, 3, 4, 5, 1000} {
		got = append(got, Wait(try))
	}
	ms := time.Millisecond
	if want := []time.Duration{500 * ms, 500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 5000 * ms, 5000 * ms}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestQuestion(t *testing.T) {
	v := Verdict{ID: "restart-x", Cluster: "c", Operation: Restart, Subject: "c-1", By: "me", Why: "because"}
	h := hook("page", Failed, "refuse", time.Second)
	h.Tries = 2
	q := v.Ask(h, keys.Fleet)
	if q.Attempt != 3 || q.Cluster != keys.Fleet || q.Before != (Before{ID: "restart-x", Cluster: "c", Operation: Restart, Subject: "c-1", By: "me", Why: "because", Deadline: h.Deadline}) {
		t.Errorf("%+v", q)
	}
	body := []byte(`{}`)
	got := q.Headers("1", now, body, []byte("key"))
	stamp := fmt.Sprint(now.Unix())
	if got[HeaderBefore] != Restart || got[HeaderID] != "c/restart-x" || got[hooks.HeaderSignature] != hooks.Sign([]byte("key"), stamp, body) || got[hooks.HeaderTimestamp] != stamp {
		t.Errorf("%v", got)
	}
	if _, signed := q.Headers("1", now, body, nil)[hooks.HeaderSignature]; signed {
		t.Error("signed without a key")
	}
}
