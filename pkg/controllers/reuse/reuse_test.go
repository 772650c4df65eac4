package reuse

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// teller answers with all that it reads; what it reads depends on what it read.
type teller struct {
	controllers.Controller
	asked int
}

func (c *teller) Plan(in controllers.Input) (controllers.Result, error) {
	c.asked++
	text := ""
	tell := func(list ...kv.KV) {
		for _, e := range list {
			text += fmt.Sprintln(e.Key, string(e.Value), e.ModRevision)
		}
	}
	s := in.Snapshot
	first, ok := s.Get("/a/1")
	tell(first)
	var res controllers.Result
	switch {
	case !ok:
		tell(s.Range("/b/")...)
	case string(first.Value) == "1":
		tell(kv.RangeShort(s, "/c/")...)
	case string(first.Value) == "2":
		tell(kv.Mentioning(s, "/b/", "2")...)
	case string(first.Value) == "3":
		e, _ := kv.GetShort(s, "/b/1")
		tell(e)
	case string(first.Value) == "4":
		text += fmt.Sprint(s.Revision())
	default:
		minute := in.Now.Truncate(time.Minute)
		text += minute.String()
		res.After = minute.Add(time.Minute).Sub(in.Now)
	}
	res.Outputs = []controllers.Output{{Key: "/out", Value: []byte(text)}}
	return res, nil
}

// TestAnswersAreThoseOfTheController: whatever changes, also when etcd is put back and
// revisions come again, the answer is the one that asking anew gives.
func TestAnswersAreThoseOfTheController(t *testing.T) {
	keys := rapid.SampledFrom([]string{"/a/1", "/a/2", "/b/1", "/b/2", "/c/1", "/d/1"})
	values := rapid.SampledFrom([]string{"1", "2", "3", "4", "5"})
	rapid.Check(t, func(t *rapid.T) {
		plain, reused := &teller{}, &teller{}
		c := Answers(reused)[0]
		m := kv.NewMap()
		for i := range 40 {
			switch key := keys.Draw(t, "key"); rapid.SampledFrom([]string{"put", "put", "delete", "back", "nothing"}).Draw(t, "act") {
			case "put":
				m.At++
				m.Keys[key] = kv.KV{Key: key, Value: []byte(values.Draw(t, "value")), ModRevision: m.At, CreateRevision: m.At}
			case "delete":
				m.At++
				delete(m.Keys, key)
			case "back":
				m.At = rapid.Int64Range(0, m.At).Draw(t, "revision")
			}
			in := controllers.Input{Cluster: "pg-test", Snapshot: m, Now: time.Unix(int64(20*i)+rapid.Int64Range(-30, 30).Draw(t, "clock"), 0)}
			want, _ := plain.Plan(in)
			got, _ := c.Plan(in)
			if string(got.Outputs[0].Value) != string(want.Outputs[0].Value) || got.After != want.After {
				t.Fatalf("step %d: answered\n%s%s, want\n%s%s", i, got.Outputs[0].Value, got.After, want.Outputs[0].Value, want.After)
			}
		}
	})
}

// TestAnswersServeAgain: as long as nothing that was read changes, and no longer.
func TestAnswersServeAgain(t *testing.T) {
	inner := &teller{}
	c := Answers(inner)[0]
	m := kv.NewMap(kv.KV{Key: "/a/1", Value: []byte("1")}, kv.KV{Key: "/c/1", Value: []byte("x")})
	in := controllers.Input{Cluster: "pg-test", Snapshot: m}
	for i, step := range []struct {
		change func()
		asked  int
	}{
		{func() {}, 1},
		{func() {}, 1},
		{func() { m.Keys["/b/1"] = kv.KV{Key: "/b/1", ModRevision: 9} }, 1}, // nobody read it
		{func() { m.Keys["/c/2"] = kv.KV{Key: "/c/2", ModRevision: 9} }, 2},
		{func() { m.Keys["/a/1"] = kv.KV{Key: "/a/1", Value: []byte("5"), ModRevision: 10} }, 3},
		{func() { in.Now = in.Now.Add(59 * time.Second) }, 3}, // it depends on the time, and is good for a minute
		{func() { in.Now = in.Now.Add(time.Second) }, 4},
		{func() { in.Now = in.Now.Add(-time.Minute) }, 5},
	} {
		step.change()
		if _, err := c.Plan(in); err != nil || inner.asked != step.asked {
			t.Errorf("step %d: asked %d times, want %d (%v)", i, inner.asked, step.asked, err)
		}
	}
}
