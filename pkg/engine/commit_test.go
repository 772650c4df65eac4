package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// together commits all requests while the writers are busy, so that they wait
// together, and returns what came of each.
func together(f farm, c *committer, requests [][]write) []error {
	f.Helper()
	errs := make([]error, len(requests))
	var wg sync.WaitGroup
	busy := func() {
		for i := range maxInFlight {
			wg.Go(func() {
				if _, err := c.commit(f.Context(), []write{{keys.Plan, fmt.Sprintf("/busy/%d", i), []byte{}, 0}}); err != nil {
					f.Error(err)
				}
			})
		}
	}
	f.etcd.Delay("committer", time.Second)
	busy()
	f.settle()
	for i, r := range requests {
		wg.Go(func() { _, errs[i] = c.commit(f.Context(), r) })
		f.settle()
	}
	wg.Wait()
	return errs
}

func (f farm) committer() *committer {
	f.Helper()
	client := f.etcd.Client("committer")
	l, err := client.Campaign(f.Context(), layout.ElectionKey(), "committer", time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	c := newCommitter(f.Context(), client, l)
	f.Cleanup(func() {
		c.close()
		_ = l.Resign(context.WithoutCancel(f.Context())) // waits for the goodbye
		_ = client.Close()
	})
	return c
}

// TestWritesThatWaitShareATransaction, and one in conflict spoils no other.
func TestWritesThatWaitShareATransaction(t *testing.T) {
	bubble(t, func(f farm) {
		f.etcd.Put("/taken", "by another")
		c := f.committer()
		requests := [][]write{
			{{keys.Plan, "/a", []byte("1"), 0}, {keys.Plan, "/b", []byte("1"), 0}},
			{{keys.Plan, "/c", []byte("1"), 0}},
			{{keys.Plan, "/d", []byte("1"), 0}},
		}
		before := f.etcd.Revision()
		for i, err := range together(f, c, requests) {
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		}
		if n := f.etcd.Revision() - before; n != maxInFlight+1 {
			t.Errorf("%d transactions, expected %d for what kept the writers busy and one more", n, maxInFlight)
		}
		f.etcd.Delete("/busy/0")
		f.etcd.Delete("/busy/1")
		f.etcd.Delete("/busy/2")
		f.etcd.Delete("/busy/3")
		errs := together(f, c, [][]write{
			{{keys.Plan, "/e", []byte("1"), 0}},
			{{keys.Plan, "/f", []byte("1"), 0}, {keys.Plan, "/taken", []byte("mine"), 0}},
			{{keys.Plan, "/g", []byte("1"), 0}},
		})
		if errs[0] != nil || errs[2] != nil || !errors.Is(errs[1], store.ErrConflict) {
			t.Errorf("got %v, expected only the second to be in conflict", errs)
		}
		f.expect("/e", "1")
		f.expect("/f", "")
		f.expect("/taken", "by another")
		f.expect("/g", "1")
	})
}

// TestDeposedCommitterWritesNothing: the guard is in every transaction, also in
// those that are tried alone (R7).
func TestDeposedCommitterWritesNothing(t *testing.T) {
	bubble(t, func(f farm) {
		c := f.committer()
		f.etcd.Delay("committer", time.Second)
		errs := make(chan error)
		for _, key := range []string{"/a", "/b"} {
			go func() {
				_, err := c.commit(f.Context(), []write{{keys.Plan, key, []byte("late"), 0}})
				errs <- err
			}()
		}
		f.settle()
		f.etcd.Delete(layout.ElectionKey())
		for range 2 {
			if err := <-errs; !errors.Is(err, store.ErrConflict) && !errors.Is(err, errNotLeading) {
				t.Errorf("got %v", err)
			}
		}
		f.expect("/a", "")
		f.expect("/b", "")
	})
}

// TestBatchesFit: a batch never is more than etcd takes, nor has a key twice.
func TestBatchesFit(t *testing.T) {
	wants := func(n, size int, name string) *request {
		r := &request{}
		for i := range n {
			r.writes = append(r.writes, write{keys.Plan, fmt.Sprintf("/%s/%d", name, i), []byte(strings.Repeat("x", size)), 0})
		}
		return r
	}
	c := &committer{waiting: []*request{
		wants(100, 1, "a"), wants(100, 1, "b"), wants(27, 1, "c"), wants(1, 1, "d"), wants(2, MaxPlan, "e"), wants(1, MaxPlan, "f"), wants(1, 1, "b"),
	}}
	var got []string
	for len(c.waiting) > 0 {
		var names []string
		for _, r := range c.take() {
			names = append(names, fmt.Sprintf("%d%c", len(r.writes), r.writes[0].key[1]))
		}
		got = append(got, strings.Join(names, " "))
	}
	want := []string{"100a 27c", "100b 1d 2e", "1f 1b"}
	if !slices.Equal(got, want) {
		t.Errorf("batches are %q, expected %q", got, want)
	}
}
