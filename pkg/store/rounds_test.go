package store_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgctrl/pgctrl/internal/beat"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// TestMirrorsAskTogether: however many mirrors a client has, one question a second
// proves that all of them are fresh, and each notices by itself when it is not.
func TestMirrorsAskTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		s.Put("/a/x", "1")
		c, rhythm := client(t, s, "c"), beat.New(time.Now())
		a, _ := run(t, c, store.MirrorOptions{Name: "a", Prefixes: []string{"/a/"}, Stream: "fast", Beat: rhythm})
		b, _ := run(t, c, store.MirrorOptions{Name: "b", Prefixes: []string{"/b/"}, Stream: "bulk", Beat: rhythm})
		time.Sleep(5*time.Second + 500*time.Millisecond)
		before := s.Reads()
		for range 60 {
			s.Put("/a/x", "2") // what b must be told of to be fresh
			time.Sleep(time.Second)
			if age(a) > store.DefaultProbeEvery || age(b) > store.DefaultProbeEvery {
				t.Fatalf("proofs are %s and %s old", age(a), age(b))
			}
		}
		if n := s.Reads() - before; n > 61 {
			t.Errorf("%d questions in a minute", n)
		}
		s.DropWatch("c")
		s.Put("/b/x", "1")
		time.Sleep(store.DefaultStaleAfter + 2*time.Second)
		if !has(b, "/b/x") || age(a) > 2*time.Second || age(b) > 2*time.Second {
			t.Errorf("after mute watches: key seen %v, proofs %s and %s old", has(b, "/b/x"), age(a), age(b))
		}
		s.Cut("c")
		time.Sleep(time.Minute)
		if age(a) < time.Minute-time.Second || age(b) < time.Minute-time.Second {
			t.Errorf("cut off: proofs are %s and %s old", age(a), age(b))
		}
		s.Heal("c")
		time.Sleep(5 * time.Second)
		if age(a) > 2*time.Second || age(b) > 2*time.Second {
			t.Errorf("after healing: proofs are %s and %s old", age(a), age(b))
		}
	})
}
