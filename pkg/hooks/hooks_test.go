package hooks_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

var l = keys.Default

// hook reads a document as the server does.
func hook(t *testing.T, key, text string) *desired.Hook {
	t.Helper()
	h, problems := desired.ReadHook(l, kv.KV{Key: key, Value: []byte(text), ModRevision: 7, CreateRevision: 5})
	if h == nil {
		t.Fatalf("%s: %v", text, problems)
	}
	return h
}

func TestWhoGetsWhat(t *testing.T) {
	const to = "\nwebhook: {url: http://h}"
	leader := events.Event{Cluster: "c", ID: "9-0", Kind: events.LeaderChanged, Severity: events.Notice, Node: "pg1", Member: "c-1"}
	failing := events.Event{Cluster: "c", ID: "9-0", Kind: events.HookFailing, Severity: events.Warning, Subject: "hooks/a"}
	with := func(e events.Event, f func(*events.Event)) events.Event { f(&e); return e }
	for _, tc := range []struct {
		what, key, text string
		e               events.Event
		wants, looping  bool
	}{
		{"its kind", l.ClusterDoc("c", "hooks/a"), "events: [leader.changed]", leader, true, false},
		{"its family", l.ClusterDoc("c", "hooks/a"), "events: [leader.*]", leader, true, false},
		{"another kind", l.ClusterDoc("c", "hooks/a"), "events: [leader.lost]", leader, false, false},
		{"another cluster", l.ClusterDoc("d", "hooks/a"), "events: ['*']", leader, false, false},
		{"the fleet's", l.FleetHook("a"), "events: ['*']", leader, true, false},
		{"milder than asked for", l.FleetHook("a"), "events: ['*']\nfilter: {severity: warning}", leader, false, false},
		{"as severe as asked for", l.FleetHook("a"), "events: ['*']\nfilter: {severity: notice}", leader, true, false},
		{"on its node", l.FleetHook("a"), "events: ['*']\nfilter: {node: [pg2, pg1]}", leader, true, false},
		{"on another node", l.FleetHook("a"), "events: ['*']\nfilter: {node: [pg2]}", leader, false, false},
		{"every field must match", l.FleetHook("a"), "events: ['*']\nfilter: {node: [pg1], member: [c-2]}", leader, false, false},
		{"hooks' events are not among all", l.ClusterDoc("c", "hooks/b"), "events: ['*']", failing, false, false},
		{"they are when named", l.ClusterDoc("c", "hooks/b"), "events: ['*', 'hook.*']", failing, true, false},
		{"or by kind", l.ClusterDoc("c", "hooks/b"), "events: [hook.failing]", failing, true, false},
		{"never about itself", l.ClusterDoc("c", "hooks/a"), "events: [hook.failing]", failing, false, false},
		{"about its namesake elsewhere", l.FleetHook("a"), "events: [hook.failing]", failing, true, false},
		{"three hops", l.FleetHook("a"), "events: ['*']", with(leader, func(e *events.Event) { e.Hops = 3 }), true, false},
		{"four hops", l.FleetHook("a"), "events: ['*']", with(leader, func(e *events.Event) { e.Hops = 4 }), false, true},
		{"four hops, not wanted", l.FleetHook("a"), "events: [vip.*]", with(leader, func(e *events.Event) { e.Hops = 4 }), false, false},
	} {
		h := hook(t, tc.key, tc.text+to)
		wants, looping := hooks.Wants(hooks.Scope(l, h), h, tc.e)
		if wants != tc.wants || looping != tc.looping {
			t.Errorf("%s: wants %v, looping %v", tc.what, wants, looping)
		}
	}
}

// What receivers build on: the names of the fields, and a signature that openssl makes as well:
// printf '1.{}' | openssl dgst -sha256 -hmac key
func TestBodyAndSignature(t *testing.T) {
	body, err := hooks.Body{Hook: "page", Cluster: "c", Attempt: 2, Event: json.RawMessage(`{"id":"9-0","later":1}`)}.Encode()
	if want := `{"schema":1,"hook":"page","cluster":"c","attempt":2,"event":{"id":"9-0","later":1}}`; err != nil || string(body) != want {
		t.Errorf("body %s, %v, want %s", body, err, want)
	}
	if got := hooks.Sign([]byte("key"), "1", []byte("{}")); got != "v1=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224" {
		t.Errorf("signature %s", got)
	}
	e := events.Event{Cluster: "c", ID: "9-0", Kind: events.LeaderLost}
	h := hooks.Headers("page", "1.2", e, time.Unix(1, 0), []byte("{}"), []byte("key"))
	for name, want := range map[string]string{
		"User-Agent": "pgctrl/1.2", "Content-Type": "application/json", "Pgctrl-Event": "leader.lost", "Pgctrl-Event-Id": "c/9-0",
		"Pgctrl-Hook": "page", "Pgctrl-Timestamp": "1", "Pgctrl-Signature": hooks.Sign([]byte("key"), "1", []byte("{}")),
	} {
		if h[name] != want {
			t.Errorf("header %s: %q, want %q", name, h[name], want)
		}
	}
	if _, signed := hooks.Headers("page", "1", e, time.Unix(1, 0), nil, nil)[hooks.HeaderSignature]; signed {
		t.Error("signed without a secret")
	}
}

func TestWait(t *testing.T) {
	for attempt, want := range map[int]time.Duration{
		1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, 1000: time.Minute,
	} {
		if got := hooks.Wait(attempt, 0); got != want {
			t.Errorf("after %d: %s, want %s", attempt, got, want)
		}
		if got := hooks.Wait(attempt, 1); got != want/2 {
			t.Errorf("after %d with all jitter: %s", attempt, got)
		}
	}
}

func TestTryingAgain(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	e := events.Event{Cluster: "c", ID: "9-0", Seen: at.Add(-time.Second)}
	s, dead := hooks.Fresh("c", "page", 5).Failed(at, e, "refused", time.Second, 10*time.Second)
	if dead || s.Attempt != 1 || !s.FailingSince.Equal(at) || !s.NextTry.Equal(at.Add(time.Second)) || s.Error != "refused" || s.Reason != hooks.Failing {
		t.Fatalf("first failure: %+v, %v", s, dead)
	}
	s, dead = s.Failed(at.Add(4*time.Second), e, "refused", 30*time.Second, 10*time.Second)
	if dead || !s.NextTry.Equal(at.Add(10*time.Second)) {
		t.Errorf("the last try is at %v, want it at the end", s.NextTry)
	}
	s, dead = s.Failed(at.Add(10*time.Second), e, "refused", time.Second, 10*time.Second)
	if !dead || s.Attempt != 3 {
		t.Errorf("at the end: %+v, %v", s, dead)
	}
	s = s.GaveUp(hooks.Cursor{Revision: 9, Event: "c.9-0"}, 1)
	if s.Dead != 1 || s.Dropped != 1 || s.Attempt != 0 || s.NextTry != nil || s.FailingSince == nil || s.Cursor.Revision != 9 {
		t.Errorf("given up: %+v", s)
	}
	// What waited during an outage of that length is over when it was tried once; what has just
	// happened is tried for as long as anything.
	if _, dead := s.Failed(at.Add(time.Minute), e, "refused", time.Second, 10*time.Second); !dead {
		t.Error("what is a minute old is waited for")
	}
	e.Seen = at.Add(59 * time.Second)
	if _, dead := s.Failed(at.Add(time.Minute), e, "refused", time.Second, 10*time.Second); dead {
		t.Error("what is a second old is given up")
	}
	s = s.Took(at.Add(time.Minute), hooks.Cursor{Revision: 10})
	if s.Delivered != 1 || s.FailingSince != nil || s.Error != "" || s.Reason != "" {
		t.Errorf("taken: %+v", s)
	}
	if _, dead := hooks.Fresh("c", "page", 5).Failed(at, e, "refused", time.Second, 0); !dead {
		t.Error("retry_for 0s: it is tried again")
	}
	if s := s.Passed(hooks.Cursor{Revision: 11}, true); s.Reason != hooks.Loop || s.Delivered != 1 {
		t.Errorf("a loop: %+v", s)
	}
}

// A hook knows that it was too late: once for as long as it does not get further than what is gone.
func TestLost(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	s := hooks.Fresh("c", "page", 5)
	if s := s.Lost(at, 4); s.Missed != nil {
		t.Errorf("what went before the hook was there is missed: %+v", s.Missed)
	}
	s = s.Passed(hooks.Cursor{Revision: 9, Event: "c.9-0"}, false)
	if s := s.Lost(at, 9); s.Missed != nil {
		t.Errorf("what it had is missed: %+v", s.Missed)
	}
	s = s.Lost(at, 20)
	if want := (hooks.Missed{At: at, After: s.Cursor, Through: 20}); s.Missed == nil || *s.Missed != want {
		t.Fatalf("%+v, want %+v", s.Missed, want)
	}
	after := s.Cursor
	s = s.Took(at, hooks.Cursor{Revision: 15, Event: "d.15-0"}).Lost(at.Add(time.Minute), 30)
	if want := (hooks.Missed{At: at, After: after, Through: 30}); *s.Missed != want {
		t.Errorf("it grows: %+v, want %+v", s.Missed, want)
	}
	s = s.Took(at, hooks.Cursor{Revision: 40, Event: "c.40-0"}).Lost(at.Add(time.Hour), 30)
	if !s.Missed.At.Equal(at) {
		t.Errorf("what it had got past is another loss: %+v", s.Missed)
	}
	if s = s.Lost(at.Add(time.Hour), 50); !s.Missed.At.Equal(at.Add(time.Hour)) || s.Missed.After.Revision != 40 {
		t.Errorf("another loss: %+v", s.Missed)
	}
}

// A receiver that is down for long is a write now and then.
func TestFewAttemptsAreWritten(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	s, writes := hooks.Fresh("c", "page", 5), 0
	for range 1000 {
		next, _ := s.Failed(now, events.Event{ID: "9-0"}, "refused", time.Minute, 24*365*time.Hour)
		if next.Worth(s) {
			writes++
		}
		s, now = next, now.Add(time.Minute)
	}
	if writes != 10 {
		t.Errorf("%d of 1000 failures were written", writes)
	}
	if next, _ := s.Failed(now, events.Event{ID: "9-0"}, "other words", time.Minute, 24*365*time.Hour); !next.Worth(s) {
		t.Error("another cause was not written")
	}
}

// The cursor splits events in those before and those behind, whatever a transaction held.
func TestCursor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (int64, events.Event) {
			id := events.ID{Revision: rapid.Int64Range(1, 3).Draw(t, name+" revision"), N: rapid.IntRange(0, 12).Draw(t, name+" n")}
			return rapid.Int64Range(5, 7).Draw(t, name+" written"), events.Event{Cluster: rapid.SampledFrom([]string{"a", "b-c", "_fleet"}).Draw(t, name+" cluster"), ID: id.String()}
		}
		r1, e1 := draw("one")
		r2, e2 := draw("other")
		at := hooks.Cursor{Revision: r1, Event: hooks.ID(e1)}
		if hooks.After(at, r1, e1) {
			t.Fatal("an event comes after itself")
		}
		want := r2 > r1 || r2 == r1 && hooks.Compare(e2, e1) > 0
		if hooks.After(at, r2, e2) != want {
			t.Fatalf("%v at %d after %v: %v", e2, r2, at, !want)
		}
	})
	if !hooks.After(hooks.Cursor{Revision: 5}, 5, events.Event{Cluster: "c", ID: "5-0"}) || !strings.HasPrefix(hooks.ID(events.Event{Cluster: "c", ID: "5-0"}), "c.") {
		t.Error("a new hook begins with what follows its document")
	}
}
