package agent

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// TestRecordsOfAnEarlierCluster: a cluster created again under its name is confirmed
// as if there had been none before, whatever the old record says.
func TestRecordsOfAnEarlierCluster(t *testing.T) {
	up := PostgresState{Reachable: true, System: "S", Timeline: 1, At: t0.Add(time.Millisecond)}
	writable := observed.Primary{Member: "m1", Epoch: 20, Sequence: 1, Writable: true, System: "older"}
	s := led("m1").with(writable)
	s.view.UID = "u2"
	act := decideConfirm("pg1", cluster3, s, proofs{Local: up}, t0.Add(2*time.Millisecond))
	if act.Write == nil || !act.Write.Writable || act.Write.System != "S" || act.Write.UID != "u2" {
		t.Errorf("with a record of the same epoch: %+v", act)
	}
	withdrawn := observed.Primary{Member: "m2", Epoch: 20, Sequence: 2, System: "older"}
	p := proofs{RemoteMember: "m2", RemoteAt: t0.Add(time.Second),
		Remote: patroni.Status{State: "running", Role: patroni.Primary, System: "S", Timeline: 1}}
	act = decideConfirm("pg1", cluster3, led("m2").with(withdrawn), p, t0.Add(time.Second))
	if act.Write == nil || act.Write.Member != "m2" {
		t.Errorf("another member, withdrawn in the earlier cluster: %+v", act)
	}
}

// TestInitializeIsPartOfTheView: routes learn of a new system identifier with the key.
func TestInitializeIsPartOfTheView(t *testing.T) {
	var s state
	key := keys.Default.Scope("c") + "initialize"
	s.fold(keys.Default, 10, []store.Change{putLeader("m1", 10), put(key, "S1", 9)}, t0)
	s.fold(keys.Default, 11, []store.Change{put(keys.Default.PrimaryKey("c"), string(observed.Encode(observed.Primary{
		Member: "m1", Epoch: 10, Sequence: 1, Writable: true, System: "S1"})), 11)}, t0)
	if !s.view.Confirmed() {
		t.Fatal("not confirmed")
	}
	s.fold(keys.Default, 12, []store.Change{put(key, "S2", 12)}, t0)
	if s.view.Confirmed() {
		t.Error("confirmed with the identifier of an earlier cluster")
	}
}
