package agent_test

import (
	"errors"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func missing(tl, from, to string) observed.Gap {
	return observed.Gap{First: tl + "00000000000000" + from, Last: tl + "00000000000000" + to, LSN: "0/5000000"}
}

// archives has member 1's PostgreSQL say that something was archived at this moment.
func archives(a *running) {
	s := writable(1)
	s.Archiving = observed.Archiving{On: true, Archived: time.Now()}
	a.host.SetPostgres(s)
}

func said(w *world, i int) int {
	if r := w.report(i, "backup").Repository; r != nil {
		return len(r.Gaps)
	}
	return -1
}

// TestAGapIsSaidOnceItStayed: what is missing at one look may be on its way. It is looked again,
// soon for this member's own WAL and minutes later for another one's, and said when it is as it
// was; nothing is written meanwhile, nor after.
func TestAGapIsSaidOnceItStayed(t *testing.T) {
	for name, tc := range map[string]struct {
		gap    observed.Gap
		within time.Duration
	}{
		"own":     {missing("00000001", "05", "06"), time.Minute},
		"another": {missing("00000000", "05", "06"), 6 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				a1, a2, _ := withBackups(t, w)
				b := a1.host.Backups()
				b.ArchiveHas("000000010000000000000009", tc.gap)
				ask(w, 1, "c.stanza-1", plan.ActStanza) // a reason to look
				after(time.Second)
				expect(t, "at first", said(w, 1), 0)
				a1.shows(t, "pgagent_archive_awaits", "cluster=c", 1)
				a2.shows(t, "pgagent_archive_awaits", "cluster=c", 0)
				if tc.within > time.Minute {
					after(4 * time.Minute)
					expect(t, "minutes later", said(w, 1), 0)
				}
				after(tc.within)
				expect(t, "later", said(w, 1), 1)
				looks := b.Looks()
				_, rev, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "backup"))
				after(5 * time.Hour)
				if _, now, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "backup")); now != rev || b.Looks() != looks {
					t.Errorf("R8: written again, or %d more looks", b.Looks()-looks)
				}
				// What waited elsewhere arrives after all.
				b.ArchiveHas("00000001000000000000000A")
				after(2 * time.Hour)
				expect(t, "it is filled", said(w, 1), 0)
			})
		})
	}
}

// TestWhatIsOnItsWayIsNoGap: one that becomes smaller from look to look is being filled.
func TestWhatIsOnItsWayIsNoGap(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		b := a1.host.Backups()
		b.ArchiveHas("000000010000000000000009", missing("00000001", "03", "06"))
		ask(w, 1, "c.stanza-1", plan.ActStanza)
		after(10 * time.Second)
		b.ArchiveHas("000000010000000000000009", missing("00000001", "05", "06"))
		after(12 * time.Second)
		expect(t, "said", said(w, 1), 0)
		b.ArchiveHas("00000001000000000000000A")
		after(10 * time.Minute)
		expect(t, "said", said(w, 1), 0)
	})
}

// TestGapsAreLookedForWhenSomethingMadeThem: archiving that begins anew, that failed and goes on,
// or that dropped WAL has the archive listed again once it has something newer.
func TestGapsAreLookedForWhenSomethingMadeThem(t *testing.T) {
	gap := missing("00000001", "05", "06")
	for name, happens := range map[string]func(w *world, a *running){
		"another plan": func(w *world, a *running) {
			off := haproxyPlan(1)
			off.Resources = plan.Resources{plan.Watched{File: plan.BackupConfig("c"), Mode: "0640", Content: "[c]\n# anew\n"}}
			w.etcd.Put(layout.PlanKey("pg1", "c", "backup"), string(plan.Encode(off)))
			after(30 * time.Second)
		},
		"it failed": func(w *world, a *running) {
			after(20 * time.Minute)
			s := writable(1)
			s.Archiving = observed.Archiving{On: true, Failed: time.Now()}
			a.host.SetPostgres(s)
			after(30 * time.Second)
			s.Archiving.Archived = time.Now()
			a.host.SetPostgres(s)
			after(90 * time.Second)
		},
		"WAL was dropped": func(w *world, a *running) {
			after(20 * time.Minute)
			a.host.Backups().Drop("000000010000000000000006")
			after(90 * time.Second)
		},
		"the repository was away": func(w *world, a *running) {
			a.host.Backups().Fail("look", errors.New("no route"))
			ask(w, 1, "c.stanza-1", plan.ActStanza)
			after(time.Second)
			a.host.Backups().Fail("look", nil)
			after(6 * time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				a1, _, _ := withBackups(t, w)
				b := a1.host.Backups()
				b.ArchiveHas("000000010000000000000004")
				after(time.Second)
				archives(a1) // what came of the member's becoming the leader is over
				after(time.Minute)
				archives(a1)
				after(time.Minute)
				happens(w, a1)
				looks := b.Looks()
				after(10 * time.Minute)
				expect(t, "looks while nothing is archived", b.Looks(), looks)
				b.ArchiveHas("000000010000000000000007", gap)
				archives(a1)
				after(2 * time.Minute)
				expect(t, "said", said(w, 1), 1)
				looks = b.Looks()
				for range 60 {
					archives(a1)
					after(time.Minute)
				}
				expect(t, "looks after it", b.Looks(), looks)
			})
		})
	}
}

// TestAnArchiveThatIsNotListed says nothing new of gaps, and hides no backup.
func TestAnArchiveThatIsNotListed(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		b := a1.host.Backups()
		b.ArchiveHas("000000010000000000000009", missing("00000001", "05", "06"))
		ask(w, 1, "c.stanza-1", plan.ActStanza)
		after(time.Minute)
		expect(t, "said", said(w, 1), 1)
		b.Unlisted(errors.New("no answer in time"))
		askBackup(w, 1, "c.backup-1")
		after(3 * time.Second)
		b.Finish(nil)
		after(5 * time.Second)
		r := w.report(1, "backup").Repository
		expect(t, "still said", len(r.Gaps), 1)
		newest, _ := r.Newest()
		expect(t, "the backup", newest.Label, "1F")
		expect(t, "error", r.Error, "")
	})
}

// TestR8LooksForGapsTellNothing: a look that finds nothing but that archiving went on changes no
// report; one an hour later may tell how far it is.
func TestR8LooksForGapsTellNothing(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		b := a1.host.Backups()
		after(time.Second)
		looks := b.Looks()
		_, rev, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "backup"))
		for _, last := range []string{"000000010000000000000005", "000000010000000000000006", "000000010000000000000007"} {
			b.ArchiveHas(last)
			archives(a1)
			after(time.Minute)
		}
		if b.Looks() == looks {
			t.Fatal("nobody looked")
		}
		if _, now, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "backup")); now != rev {
			t.Errorf("the report was written at %d, and again at %d", rev, now)
		}
	})
}
