package agent

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func put(key, value string, rev int64) store.Change {
	return store.Change{Key: key, New: &kv.KV{Key: key, Value: []byte(value), ModRevision: rev, Lease: 7}}
}

func putLeader(member string, rev int64) store.Change {
	return put(keys.Default.Leader("c"), member, rev)
}

func putPrimary(member string, epoch, rev int64) store.Change {
	return put(keys.Default.PrimaryKey("c"), string(observed.Encode(observed.Primary{
		Member: member, Epoch: epoch, Sequence: 1, Writable: true})), rev)
}

func del(old store.Change) store.Change { return store.Change{Key: old.Key, Old: old.New} }

func TestR7_AnOlderLeaderEventChangesNothing(t *testing.T) {
	var s state
	s.fold(keys.Default, 20, []store.Change{putLeader("m2", 20)}, t0)
	before := s.view
	for _, late := range []store.Change{putLeader("m1", 10), putLeader("m1", 20), del(putLeader("m1", 10))} {
		if n := s.fold(keys.Default, 20, []store.Change{late}, t0.Add(time.Second)); n.leader {
			t.Errorf("%+v was news", late)
		}
		if s.view.Leader != before.Leader || s.leaderAt != t0 {
			t.Errorf("%+v changed the leader to %+v", late, s.view.Leader)
		}
	}
}

func TestDeleteAndPutInOneBatch(t *testing.T) {
	var s state
	first := putLeader("m1", 10)
	s.fold(keys.Default, 10, []store.Change{first}, t0)
	n := s.fold(keys.Default, 12, []store.Change{del(first), putLeader("m2", 12)}, t0.Add(time.Second))
	if !n.leader || s.view.Leader.Member != "m2" || s.view.Leader.Epoch != 12 || s.view.OtherEpoch != 10 {
		t.Fatalf("%+v", s.view)
	}
}

func TestPrimaryAheadOfItsLeaderWaits(t *testing.T) {
	var s state
	s.fold(keys.Default, 11, []store.Change{putLeader("m1", 10), putPrimary("m1", 10, 11)}, t0)
	s.fold(keys.Default, 21, []store.Change{putPrimary("m2", 20, 21)}, t0)
	if !s.view.Confirmed() || s.view.Primary.Member != "m1" {
		t.Fatalf("the old primary is dropped before the leader event: %+v", s.view.Primary)
	}
	s.fold(keys.Default, 20, []store.Change{putLeader("m2", 20)}, t0)
	if !s.view.Confirmed() || s.view.Primary.Member != "m2" || s.back {
		t.Fatalf("the new primary is not taken with the leader event: %+v", s.view)
	}
}

func TestOwnWriteIsNotUndoneByItsPast(t *testing.T) {
	var s state
	s.fold(keys.Default, 20, []store.Change{putLeader("m1", 20)}, t0)
	s.wrote(observed.Primary{Member: "m1", Epoch: 20, Sequence: 1, Writable: true}, 25)
	s.fold(keys.Default, 22, []store.Change{del(putPrimary("m2", 10, 11))}, t0) // arrives late
	if s.stored == nil || s.storedRev != 25 || !s.view.Confirmed() {
		t.Fatalf("stored %+v at %d", s.stored, s.storedRev)
	}
}

func TestEtcdBackInTimeIsNoticed(t *testing.T) {
	var s state
	s.fold(keys.Default, 100, []store.Change{putLeader("m1", 100)}, t0)
	if s.proven(t0.Add(-time.Second), 90) {
		t.Fatal("a question asked before the event may be answered without it")
	}
	if !s.proven(t0.Add(time.Second), 90) {
		t.Fatal("a question asked after the event was answered without it")
	}
}

func TestUnreadableKeysKeepTheirLastGoodValue(t *testing.T) {
	var s state
	scope := keys.Default.Scope("c")
	s.fold(keys.Default, 3, []store.Change{
		put(scope+"config", `{"pause":true}`, 1), put(scope+"members/m1", `{"state":"running"}`, 2), put(scope+"failover", `{}`, 3),
	}, t0)
	n := s.fold(keys.Default, 5, []store.Change{put(scope+"config", `{`, 4), put(scope+"members/m1", `{`, 5)}, t0)
	if len(n.bad) != 2 || !s.view.Paused || !s.view.Members["m1"].Running() {
		t.Fatalf("bad %v, view %+v", n.bad, s.view)
	}
}

func TestProjectKeepsHeartbeatsOutAndRestampsIn(t *testing.T) {
	p := project(keys.Default)
	key := keys.Default.Members("c") + "m1"
	beat := func(lsn string, lease int64) string {
		return string(p(kv.KV{Key: key, Value: []byte(`{"state":"running","xlog_location":` + lsn + `}`), Lease: lease}))
	}
	if beat("1", 7) != beat("2", 7) {
		t.Error("a heartbeat is a change")
	}
	if beat("1", 7) == beat("1", 8) {
		t.Error("another lease is no change")
	}
	leader := keys.Default.Leader("c")
	if string(p(kv.KV{Key: leader, Value: []byte("m1"), ModRevision: 1})) == string(p(kv.KV{Key: leader, Value: []byte("m1"), ModRevision: 2})) {
		t.Error("a re-stamped leader key is no change")
	}
}

// Each key's events arrive in their order; between keys any order is possible. The
// view must end up the same, and must never show a primary confirmed that is not
// the leader it shows.
func TestArrivalOrderBetweenKeysDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var leaders, primaries []store.Change
		rev := int64(0)
		for range rapid.IntRange(1, 6).Draw(t, "terms") {
			rev++
			m := rapid.SampledFrom([]string{"m1", "m2", "m3"}).Draw(t, "leader")
			leaders = append(leaders, putLeader(m, rev))
			if epoch := rev; rapid.Bool().Draw(t, "confirmed") {
				rev++
				primaries = append(primaries, putPrimary(m, epoch, rev))
			}
		}
		fold := func(s *state, c store.Change) {
			s.fold(keys.Default, c.New.ModRevision, []store.Change{c}, t0)
			if v := s.view; v.Primary != nil && plan.Epoch(v.Primary.Epoch) > v.Leader.Epoch {
				t.Fatalf("primary %+v is ahead of leader %+v", *v.Primary, v.Leader)
			}
		}
		var mixed, straight state
		l, p := leaders, primaries
		for len(l)+len(p) > 0 {
			if len(p) == 0 || len(l) > 0 && rapid.Bool().Draw(t, "leader first") {
				fold(&mixed, l[0])
				l = l[1:]
			} else {
				fold(&mixed, p[0])
				p = p[1:]
			}
		}
		for _, c := range append(leaders, primaries...) {
			fold(&straight, c)
		}
		if mixed.view.Leader != straight.view.Leader || mixed.view.Confirmed() != straight.view.Confirmed() {
			t.Fatalf("mixed %+v, straight %+v", mixed.view, straight.view)
		}
	})
}
