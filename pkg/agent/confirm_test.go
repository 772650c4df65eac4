package agent

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

var (
	t0       = time.Now()
	cluster3 = plan.Cluster{Name: "c", Member: "m1", Members: []plan.Member{
		{Name: "m1", Node: "pg1", Address: "10.0.0.1", Port: 5432, RESTPort: 8008},
		{Name: "m2", Node: "pg2", Address: "10.0.0.2", Port: 5432, RESTPort: 8008},
		{Name: "m3", Node: "pg3", Address: "10.0.0.3", Port: 5432, RESTPort: 8008},
	}}
)

// led is a cluster in which leader has led since t0 at epoch 20 under lease 7.
func led(leader string) state {
	s := state{initialize: "S", leaderAt: t0}
	s.view = plan.View{Known: true, FreshAt: t0, Members: map[string]patroni.Member{}}
	for _, m := range cluster3.Members {
		s.view.Members[m.Name] = patroni.Member{Name: m.Name, Lease: 7, APIURL: "http://" + restAddress(m) + "/patroni"}
	}
	s.view.Observe(leader, 20, 7, t0)
	return s
}

func (s state) with(p observed.Primary) state {
	s.stored, s.storedRev = &p, 30
	s.view.ObservePrimary(p)
	return s
}

func (s state) member(name string, change func(*patroni.Member)) state {
	m := s.view.Members[name]
	change(&m)
	s.view.Members[name] = m
	return s
}

func TestDecideConfirm(t *testing.T) {
	up := PostgresState{Reachable: true, System: "S", Timeline: 3, At: t0.Add(time.Millisecond)}
	standby := up
	standby.InRecovery = true
	early := up
	early.At = t0.Add(-time.Millisecond)
	old := up
	stranger := up
	stranger.System = "D"
	primary := patroni.Status{State: "running", Role: patroni.Primary, System: "S", Timeline: 3}
	rec := func(member string, epoch, seq int64, writable bool) observed.Primary {
		return observed.Primary{Member: member, Epoch: epoch, Sequence: seq, Writable: writable}
	}
	asked := func(st patroni.Status, err error) proofs {
		return proofs{Remote: st, RemoteMember: "m2", RemoteAt: t0.Add(time.Second), RemoteErr: err}
	}
	soon, second := t0.Add(2*time.Millisecond), t0.Add(time.Second)
	afterGrace := t0.Add(identityGrace + time.Millisecond)
	late := up
	late.At = afterGrace
	for _, c := range []struct {
		name  string
		s     state
		p     proofs
		now   time.Time
		write string // "member@epoch.seq=writable", or empty
		probe bool
		fast  bool
		why   observed.Reason
	}{
		{name: "writable under this leadership", s: led("m1"), p: proofs{Local: up}, now: soon, write: "m1@20.1=true", fast: true},
		{name: "after another's confirmation", s: led("m1").with(rec("m2", 10, 4, true)), p: proofs{Local: up}, now: soon, write: "m1@20.1=true", fast: true},
		{name: "confirmed already", s: led("m1").with(rec("m1", 20, 1, true)), p: proofs{Local: up}, now: soon},
		{name: "re-stamped: the epoch is brought up to date", s: led("m1").with(rec("m1", 10, 1, true)), p: proofs{Local: up}, now: soon, write: "m1@20.1=true", fast: true},
		{name: "confirmed again after a withdrawal", s: led("m1").with(rec("m1", 20, 2, false)), p: proofs{Local: up}, now: soon, write: "m1@20.3=true", fast: true},
		{name: "the key was deleted by hand", s: func() state {
			s := led("m1").with(rec("m1", 20, 5, true))
			s.stored, s.storedRev = nil, 0
			return s
		}(), p: proofs{Local: up}, now: soon, write: "m1@20.6=true", fast: true},
		{name: "asked before the leader event", s: led("m1"), p: proofs{Local: early}, now: soon, fast: true},
		{name: "an old answer", s: led("m1"), p: proofs{Local: old}, now: t0.Add(3 * time.Second), fast: true},
		{name: "no answer", s: led("m1"), p: proofs{Local: PostgresState{At: up.At}}, now: soon, fast: true},
		{name: "no answer withdraws nothing", s: led("m1").with(rec("m1", 20, 1, true)), p: proofs{Local: PostgresState{At: up.At}}, now: soon},
		{name: "in recovery", s: led("m1"), p: proofs{Local: standby}, now: soon, fast: true},
		{name: "in recovery withdraws", s: led("m1").with(rec("m1", 20, 1, true)), p: proofs{Local: standby}, now: soon, write: "m1@20.2=false"},
		{name: "in recovery withdraws an earlier epoch's", s: led("m1").with(rec("m1", 10, 9, true)), p: proofs{Local: standby}, now: soon, write: "m1@20.1=false", fast: true},
		{name: "in recovery leaves another's alone", s: led("m1").with(rec("m2", 10, 1, true)), p: proofs{Local: standby}, now: soon, fast: true},
		{name: "Debian's own cluster", s: led("m1"), p: proofs{Local: stranger}, now: soon, fast: true, why: observed.WrongSystem},
		{name: "Debian's own cluster withdraws", s: led("m1").with(rec("m1", 20, 1, true)), p: proofs{Local: stranger}, now: soon, write: "m1@20.2=false", why: observed.WrongSystem},
		{name: "no initialize key", s: func() state { s := led("m1"); s.initialize = ""; return s }(), p: proofs{Local: up}, now: soon, fast: true, why: observed.WrongSystem},
		{name: "another lease", s: led("m1").member("m1", func(m *patroni.Member) { m.Lease = 8 }), p: proofs{Local: late}, now: afterGrace, why: observed.DuplicateMember},
		{name: "another lease for a moment: Patroni writes one key after the other", s: led("m1").member("m1", func(m *patroni.Member) { m.Lease = 8 }), p: proofs{Local: up}, now: soon},
		{name: "another lease, and in recovery: drop needs no proof of identity", s: led("m1").with(rec("m1", 10, 1, true)).member("m1", func(m *patroni.Member) { m.Lease = 8 }),
			p: proofs{Local: standby}, now: soon, write: "m1@20.1=false"},
		{name: "another address", s: led("m1").member("m1", func(m *patroni.Member) { m.APIURL = "http://10.0.0.9:8008/patroni" }), p: proofs{Local: up}, now: soon, why: observed.DuplicateMember},
		{name: "no member key", s: func() state { s := led("m1"); delete(s.view.Members, "m1"); return s }(), p: proofs{Local: up}, now: soon, why: observed.DuplicateMember},
		{name: "a confirmation from the future", s: led("m1").with(rec("m2", 99, 1, true)), p: proofs{Local: up}, now: soon, why: observed.StoreChanged},
		{name: "etcd went back", s: func() state { s := led("m1"); s.back = true; return s }(), p: proofs{Local: up}, now: soon},
		{name: "no leader", s: func() state { s := led("m1"); s.view.Observe("", 21, 0, t0); return s }(), p: proofs{Local: up}, now: soon},
		{name: "not read yet", s: func() state { s := led("m1"); s.view.Known = false; return s }(), p: proofs{Local: up}, now: soon},

		{name: "another leads: first its own agent", s: led("m2"), p: proofs{Local: up}, now: t0.Add(999 * time.Millisecond)},
		{name: "another leads: after 1 s ask", s: led("m2"), now: second, probe: true},
		{name: "another leads: confirmed", s: led("m2").with(rec("m2", 20, 1, true)), now: second},
		{name: "another leads: withdrawn by its own agent", s: led("m2").with(rec("m2", 20, 2, false)), now: second},
		{name: "another leads: standby cluster", s: func() state { s := led("m2"); s.view.StandbyCluster = true; return s }(), now: second},
		{name: "another leads: takes writes", s: led("m2").with(rec("m1", 10, 1, true)), p: asked(primary, nil), now: second, write: "m2@20.1=true"},
		{name: "another leads: old answer", s: led("m2"), p: asked(primary, nil), now: second.Add(probeEvery), probe: true},
		{name: "another leads: no answer", s: led("m2"), p: asked(patroni.Status{}, errors.New("refused")), now: second, why: observed.NotConfirmed},
		{name: "another leads: still a replica", s: led("m2"), p: asked(patroni.Status{State: "running", Role: patroni.Replica, System: "S"}, nil), now: second, why: observed.NotConfirmed},
		{name: "another leads: another system", s: led("m2"), p: asked(patroni.Status{State: "running", Role: patroni.Primary, System: "D"}, nil), now: second, why: observed.WrongSystem},
		{name: "another leads: an impostor", s: led("m2").member("m2", func(m *patroni.Member) { m.APIURL = "http://10.0.0.9:8008" }), now: second, why: observed.DuplicateMember},
		{name: "another leads: a member unheard of", s: led("m9"), now: second, why: observed.NotConfirmed},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := decideConfirm("pg1", cluster3, c.s, c.p, c.now)
			check := func(what string, got, want any) {
				if got != want {
					t.Errorf("%s: got %v, want %v", what, got, want)
				}
			}
			check("write", written(a), c.write)
			check("probe", a.Probe != nil, c.probe)
			check("fast", a.Fast, c.fast)
			why := observed.Reason("")
			if a.Why != nil {
				why = a.Why.Reason
			}
			check("why", why, c.why)
			if a.Write != nil {
				check("guard: leader", a.LeaderIs, c.s.view.Leader.Member)
				check("guard: epoch", a.Epoch, c.s.view.Leader.Epoch)
				check("guard: primary", a.PrimaryRev, c.s.storedRev)
				check("by", a.Write.By, "pg1")
			}
		})
	}
}

func written(a action) string {
	if a.Write == nil {
		return ""
	}
	w := "false"
	if a.Write.Writable {
		w = "true"
	}
	return a.Write.Member + "@" + itoa(a.Write.Epoch) + "." + itoa(a.Write.Sequence) + "=" + w
}

func TestANodeWithoutMemberConfirmsNothing(t *testing.T) {
	c := cluster3
	c.Member = ""
	a := decideConfirm("proxy1", c, led("m2"), proofs{}, t0.Add(time.Minute))
	if a.Write != nil || a.Probe != nil {
		t.Fatalf("it has no right to: %+v", a)
	}
}

func TestAgentsStepInOneAfterAnother(t *testing.T) {
	for i, own := range []string{"m1", "m3"} {
		c := cluster3
		c.Member = own
		at := plan.UnconfirmedFor + time.Duration(i)*staggerStep
		if a := decideConfirm("n", c, led("m2"), proofs{}, t0.Add(at-time.Millisecond)); a.Probe != nil || a.After != time.Millisecond {
			t.Errorf("%s steps in early: %+v", own, a)
		}
		if a := decideConfirm("n", c, led("m2"), proofs{}, t0.Add(at)); a.Probe == nil {
			t.Errorf("%s does not step in: %+v", own, a)
		}
	}
}

// Whatever the inputs: what is written replaces what is stored, is about the
// present leader at its epoch, and calls writable only what was proven so after
// the leadership began. While nobody leads, what is stored of this member is withdrawn.
func TestConfirmationsAreProvenAndOrdered(t *testing.T) {
	names := []string{"", "m1", "m2", "m3", "m9"}
	rapid.Check(t, func(t *rapid.T) {
		ms := func(label string) time.Time {
			return t0.Add(time.Duration(rapid.IntRange(-2000, 4000).Draw(t, label)) * time.Millisecond)
		}
		s := led("m1")
		s.view.Leader, s.view.Last = plan.Leader{}, plan.Leader{}
		epoch := plan.Epoch(0)
		for range rapid.IntRange(0, 4).Draw(t, "events") {
			epoch += plan.Epoch(rapid.IntRange(-2, 5).Draw(t, "step"))
			if s.view.Observe(rapid.SampledFrom(names).Draw(t, "leader"), epoch, 7, ms("leader at")) {
				s.leaderAt = ms("seen at")
			}
		}
		if rapid.Bool().Draw(t, "stored") {
			s = s.with(observed.Primary{
				Member: rapid.SampledFrom(names[1:]).Draw(t, "primary"), Epoch: int64(rapid.IntRange(0, 12).Draw(t, "primary epoch")),
				Sequence: int64(rapid.IntRange(1, 3).Draw(t, "sequence")), Writable: rapid.Bool().Draw(t, "writable"),
			})
		}
		p := proofs{
			Local: PostgresState{
				Reachable: rapid.Bool().Draw(t, "reachable"), InRecovery: rapid.Bool().Draw(t, "in recovery"),
				System: rapid.SampledFrom([]string{"", "S", "D"}).Draw(t, "system"), At: ms("local at"),
			},
			Remote: patroni.Status{
				State: "running", Role: rapid.SampledFrom([]patroni.Role{patroni.Primary, patroni.Replica}).Draw(t, "role"),
				System: rapid.SampledFrom([]string{"", "S", "D"}).Draw(t, "remote system"),
			},
			RemoteMember: rapid.SampledFrom(names).Draw(t, "remote member"), RemoteAt: ms("remote at"),
		}
		a := decideConfirm("pg1", cluster3, s, p, ms("now"))
		if a.Write == nil {
			return
		}
		w := *a.Write
		if s.stored != nil && !w.Replaces(*s.stored) {
			t.Fatalf("%+v does not replace %+v", w, *s.stored)
		}
		if a.Leaderless {
			if s.view.Leader.Member != "" || w.Writable || w.Member != "m1" || w.Epoch != s.stored.Epoch || a.PrimaryRev != s.storedRev {
				t.Fatalf("%+v while nobody leads", w)
			}
			return
		}
		if w.Member != s.view.Leader.Member || w.Epoch != int64(s.view.Leader.Epoch) || a.PrimaryRev != s.storedRev {
			t.Fatalf("%+v is not about the leader %+v", w, s.view.Leader)
		}
		own := w.Member == "m1" && p.Local.Reachable && !p.Local.InRecovery && p.Local.System == "S" && !p.Local.At.Before(s.leaderAt)
		other := w.Member == p.RemoteMember && p.Remote.TakesWrites() && p.Remote.System == "S" && !p.RemoteAt.Before(s.leaderAt)
		if w.Writable && !own && !other {
			t.Fatalf("%+v was not proven", w)
		}
	})
}
