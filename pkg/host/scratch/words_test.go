package scratch

import (
	"errors"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// A recovery of PostgreSQL 15.18 that ends before its target, as it was recorded.
const unreached = `LOG:  starting PostgreSQL 15.18 (Debian 15.18-0+deb12u1)
LOG:  restored log file "000000010000000000000003" from archive
FATAL:  the database system is starting up
LOG:  redo starts at 0/3000028
LOG:  restored log file "000000010000000000000004" from archive
cp: cannot stat '/x/wal/000000010000000000000005': No such file or directory
LOG:  redo done at 0/4003F60 system usage: CPU: user: 0.00 s, system: 0.00 s, elapsed: 0.07 s
LOG:  last completed transaction was at log time 2026-11-26 23:22:23.10679+00
FATAL:  recovery ended before configured recovery target was reached
LOG:  startup process (PID 27875) exited with exit code 1
`

func TestSaysWhyRecoveryEnded(t *testing.T) {
	j := job{Cluster: "c", Node: "pg1", Order: Order{Target: Target{Type: "time", Value: "2027-01-01 00:00:00+00"}}}
	for name, c := range map[string]struct {
		log, gap string
		want     []string
	}{
		"before the target": {unreached, "", []string{"the archive ends before the target (time 2027-01-01 00:00:00+00)", "the last transaction that can be had is of 2026-11-26 23:22:23.10679 UTC"}},
		"at a gap":          {unreached, "000000010000000000000005", []string{"no segment 000000010000000000000005", "up to L", "2026-11-26 23:22:23"}},
		"its own words":     {"FATAL:  the database system is starting up\nPANIC:  could not locate a valid checkpoint record\n", "", []string{"PostgreSQL says: could not locate a valid checkpoint record"}},
		"nothing":           {"", "", []string{"did not say why"}},
	} {
		var s said
		for line := range strings.Lines(c.log) {
			s.hear(strings.TrimSpace(line))
		}
		err := s.failure(j, fetched{Gap: c.gap, Last: "L"})
		r, is := errors.AsType[*plan.Refusal](err)
		if !is || r.Reason != observed.RecoveryFailed || r.Next == "" {
			t.Fatalf("%s: %v", name, err)
		}
		for _, want := range c.want {
			if !strings.Contains(r.Message, want) {
				t.Errorf("%s: no %q in %q", name, want, r.Message)
			}
		}
	}
}

func TestSettings(t *testing.T) {
	c := parseControl([]byte("max_connections setting:              150\nmax_prepared_xacts setting:           7\nwal_level setting:                    logical\nBytes per WAL segment:                1048576\nData page checksum version:           0\n"))
	if c.segment() != 1<<20 || c.checksums() || (control{}).segment() != 16<<20 {
		t.Errorf("%+v", c)
	}
	o := Order{Step: "s", Dir: "/x/y", Bin: "/b", Target: Target{Type: "time", Value: "2026-11-26 12:30:00Z"}, Offline: true}
	text := settings(job{Order: o, Cluster: "c"}, c)
	for _, want := range []string{
		"listen_addresses = ''", "unix_socket_directories = '/x/y/s'", "archive_mode = 'on'", "archive_command = ''", "shared_preload_libraries = ''",
		"max_logical_replication_workers = '0'", "max_connections = '150'", "max_prepared_transactions = '7'", "wal_level = 'logical'",
		`restore_command = 'cp /x/y/wal/%f "%p"'`, "recovery_target_time = '2026-11-26 12:30:00+00'", "recovery_target_action = 'promote'", "recovery_target_timeline = 'latest'",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	o.Offline, o.Target = false, Target{Type: "latest"}
	text = settings(job{Order: o, Cluster: "c", Config: "/etc/c.conf", Pgbackrest: "/usr/bin/pgbackrest"}, c)
	if strings.Contains(text, "recovery_target_time =") || !strings.Contains(text, "--config=/etc/c.conf --stanza=c --pg1-path=/x/y/data --no-archive-async") {
		t.Error(text)
	}
}

// TestOrdersAreChecked: parts of an order stand in command lines and are removed with all that
// is in them.
func TestOrdersAreChecked(t *testing.T) {
	good := Order{Step: "c.verify-1", Dir: "/var/lib/postgresql/15/c.scratch", Bin: "/usr/lib/postgresql/15/bin", Backup: "20261126-010000F", Target: Target{Type: "latest"}}
	if err := good.check("pg-test"); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Order){
		"no step": func(o *Order) { o.Step = "" }, "step": func(o *Order) { o.Step = "a b" }, "root": func(o *Order) { o.Dir = "/scratch" },
		"relative": func(o *Order) { o.Dir = "a/b" }, "up": func(o *Order) { o.Dir = "/a/../b" }, "blank": func(o *Order) { o.Dir = "/a/b c" },
		"quote": func(o *Order) { o.Dir = "/a/b'c" }, "dollar": func(o *Order) { o.Dir = "/a/$b" }, "long": func(o *Order) { o.Dir = "/a/" + strings.Repeat("b", 100) },
		"slash": func(o *Order) { o.Dir += "/" }, "bin": func(o *Order) { o.Bin = "" }, "label": func(o *Order) { o.Backup = "newest" },
		"type": func(o *Order) { o.Target.Type = "then" }, "value": func(o *Order) { o.Target.Value = "x" }, "no value": func(o *Order) { o.Target.Type = "time" },
		"quoted": func(o *Order) { o.Target = Target{Type: "name", Value: "a'b"} }, "heartbeat": func(o *Order) { o.Heartbeat = "'" },
	} {
		o := good
		change(&o)
		if o.check("pg-test") == nil {
			t.Errorf("%s: %+v was taken", name, o)
		}
	}
	if good.check("a;b") == nil {
		t.Error("a cluster's name was taken")
	}
}
