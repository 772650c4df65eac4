package scratch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestRealRestores restores with pgBackRest and PostgreSQL as they are.
func TestRealRestores(t *testing.T) {
	r := newRig(t)
	r.psql("insert into pgctrl.heartbeat values ('hb-1', '2026-11-26 12:00:00+00'); insert into t values (-1)")
	r.archived()
	lsn := r.psql("select pg_current_wal_lsn()")
	r.psql("insert into t values (-2)")
	r.archived()
	repository := r.sh("find repo -type f | sort | xargs sha256sum")
	unchanged := func() {
		t.Helper()
		if now := r.sh("find repo -type f | sort | xargs sha256sum"); now != repository {
			t.Errorf("the repository changed:\n%s\n%s", repository, now)
		}
	}

	t.Run("a proof", func(t *testing.T) {
		o := r.order("c.verify-1")
		o.Heartbeat = "hb-1"
		run := r.restore(o)
		if run.Err != nil || run.Result == nil {
			t.Fatalf("%+v\n%s", run, r.units.Journal(t.Context(), plan.ScratchUnit("c"), 0))
		}
		got := *run.Result
		if got.Label != r.label || got.Timeline != 2 || !got.Checksums || got.Heartbeat.Format("15:04") != "12:00" || got.At.IsZero() || got.Fetch <= 0 || got.Replay <= 0 || got.Ended.IsZero() {
			t.Errorf("%+v", got)
		}
		if recover := r.units.started[1]; recover.Sandbox == nil || !slices.Equal(recover.Sandbox.Writable, []string{o.Dir}) ||
			!slices.Contains(recover.Sandbox.Hidden, "-"+r.dir+"/repo") || !slices.Contains(recover.Sandbox.Hidden, "-/run/postgresql") {
			t.Errorf("%+v", recover.Sandbox)
		}
		if r.units.started[0].Sandbox != nil {
			t.Error("the copying has no network")
		}
		if left, _ := filepath.Glob(o.Dir + "/data"); len(left) > 0 {
			t.Error("the data are left")
		}
		r.end(o, false)
		unchanged()
	})
	t.Run("a restore that is kept", func(t *testing.T) {
		o := r.order("c.restore-1")
		o.Offline, o.Keep, o.Target = false, true, Target{Type: "lsn", Value: lsn}
		run := r.restore(o)
		if run.Err != nil || run.Result == nil {
			t.Fatalf("%+v\n%s", run, r.units.Journal(t.Context(), plan.ScratchUnit("c"), 0))
		}
		if r.units.started[len(r.units.started)-1].Sandbox != nil {
			t.Error("it has no network, and asks the repository")
		}
		// A boot of the host forgets the units and not what came of them.
		r.units.units = nil
		if again, err := r.driver.Run(t.Context(), "c"); err != nil || again.Running || again.Result == nil || again.Step != o.Step {
			t.Errorf("after a boot: %+v, %v", again, err)
		}
		r.end(o, true)
		if conf := r.sh("cat scr/data/postgresql.auto.conf"); !strings.Contains(conf, "work_mem") {
			t.Errorf("what ALTER SYSTEM had set is %q", conf)
		}
		if waits := r.sh("ls scr/data/pg_wal/archive_status"); !strings.Contains(waits, "00000002.history.ready") {
			t.Errorf("what waits for the archive: %s", waits)
		}
		// It is a data directory as any other, with what there was and nothing later.
		rows := r.sh("echo 'select sum(i) filter (where i < 0) from t' | " + r.bin + "/postgres --single -D scr/data -c config_file=" + r.dir + "/scr/postgresql.conf postgres 2>&1")
		if !strings.Contains(rows, `"-1"`) {
			t.Errorf("rows: %s", rows)
		}
		if err := r.driver.Remove(t.Context(), "c", o.Dir); err != nil {
			t.Fatal(err)
		}
		r.gone(o)
		unchanged()
	})
	for name, c := range map[string]struct {
		change func(*Order)
		want   string
	}{
		"a target that is not there":    {func(o *Order) { o.Target = Target{Type: "name", Value: "nope"} }, "the archive ends before the target (name nope); the last transaction"},
		"a heartbeat that is not there": {func(o *Order) { o.Heartbeat = "hb-2" }, "the heartbeat hb-2"},
		"no such backup":                {func(o *Order) { o.Backup = "20260101-000000F" }, "20260101-000000F"},
	} {
		t.Run(name, func(t *testing.T) { r.fails(c.change, c.want) })
	}
	t.Run("a segment is missing", func(t *testing.T) {
		segment := r.archived()
		r.archived()
		r.sh("mkdir away; mv repo/archive/c/*/*/" + segment + "* away/")
		defer r.sh("mv away/* repo/archive/c/15-1/" + segment[:16] + "/; rmdir away")
		r.fails(func(*Order) {}, "the archive has no segment "+segment)
		r.fails(func(o *Order) { o.Target = Target{Type: "name", Value: "nope"} }, "the archive has no segment "+segment+", although")
	})
	t.Run("a damaged backup", func(t *testing.T) {
		bundle := r.sh("find repo/backup/c/" + r.label + " -name 1 -path '*bundle*'")
		r.sh("cp " + bundle + " kept; printf XXXXXXXX | dd of=" + bundle + " bs=1 seek=20000 conv=notrunc 2>/dev/null")
		defer r.sh("mv kept " + bundle)
		r.fails(func(*Order) {}, "restore backup "+r.label)
	})
	t.Run("a page that is not as its checksum says", func(t *testing.T) {
		r.psql("vacuum freeze t") // nothing is left that would have PostgreSQL write its pages again
		r.psql("checkpoint")
		file := r.psql("select pg_relation_filepath('t')")
		r.sh("printf XXXXXXXX | dd of=data/" + file + " bs=1 seek=20000 conv=notrunc 2>/dev/null")
		r.backup()
		r.fails(func(*Order) {}, "pages are not as their checksums say")
	})
}

func (r *rig) fails(change func(*Order), want string) {
	r.t.Helper()
	o := r.order("c.verify-9")
	change(&o)
	run := r.restore(o)
	no, is := errors.AsType[*plan.Refusal](run.Err)
	if !is || no.Reason != observed.RecoveryFailed || !strings.Contains(no.Message, want) || run.Result != nil {
		r.t.Errorf("expected %q, found %v", want, run.Err)
	}
	r.end(o, false)
}

// end ends it; the folder is there afterwards or not.
func (r *rig) end(o Order, stays bool) {
	r.t.Helper()
	if err := r.driver.End(context.Background(), "c"); err != nil {
		r.t.Fatal(err)
	}
	if stays {
		if _, err := os.Stat(o.Dir + "/data/PG_VERSION"); err != nil {
			r.t.Error(err)
		}
		return
	}
	r.gone(o)
}

func (r *rig) gone(o Order) {
	r.t.Helper()
	if _, err := os.Lstat(o.Dir); !os.IsNotExist(err) {
		r.t.Errorf("%s is left: %v", o.Dir, err)
	}
	if run, err := r.driver.Run(context.Background(), "c"); err != nil || run.Step != "" {
		r.t.Errorf("%+v, %v", run, err)
	}
}

// TestRoom: what there is no room for is refused before anything is copied.
func TestRoom(t *testing.T) {
	s := &stage{job: job{Order: Order{Dir: t.TempDir(), Backup: "L"}, Node: "pg1"}}
	if err := s.room(1 << 20); err != nil {
		t.Fatal(err)
	}
	err := s.room(1 << 60)
	no, is := errors.AsType[*plan.Refusal](err)
	if !is || no.Reason != observed.NoRoom || !strings.Contains(no.Message, "needs 1181116006.4 GiB") || !strings.Contains(no.Message, "there are") {
		t.Fatal(err)
	}
}
