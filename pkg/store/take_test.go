package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// TestTakeIsForOne: who comes second hears so at once, whoever gives the key back lets
// the next one have it, and who dies does within the lease.
func TestTakeIsForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		first, second := client(t, s, "first"), client(t, s, "second")
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		held, err := first.Take(ctx, key, "one", 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.Take(ctx, key, "two", 10*time.Second); !errors.Is(err, store.ErrTaken) {
			t.Fatalf("taken twice: %v", err)
		}
		time.Sleep(time.Minute) // renewed meanwhile
		if _, err := second.Take(ctx, key, "two", 10*time.Second); !errors.Is(err, store.ErrTaken) || !held.Held() {
			t.Fatalf("not kept: %v", err)
		}
		if err := held.Resign(ctx); err != nil {
			t.Fatal(err)
		}
		next, err := second.Take(ctx, key, "two", 10*time.Second)
		if err != nil {
			t.Fatalf("not given back: %v", err)
		}
		s.Cut("second") // as good as dead
		time.Sleep(11 * time.Second)
		if next.Held() {
			t.Error("held though it could not be renewed")
		}
		again, err := first.Take(ctx, key, "one", 10*time.Second)
		if err != nil {
			t.Fatalf("a dead one keeps it: %v", err)
		}
		if err := again.Resign(ctx); err != nil {
			t.Error(err)
		}
		stop()
		synctest.Wait()
	})
}
