package scratch

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// control is what pg_controldata prints.
type control map[string]string

func parseControl(out []byte) control {
	c := control{}
	for line := range strings.Lines(string(out)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			c[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return c
}

// segment is the size of a segment of WAL, in bytes.
func (c control) segment() int64 {
	n, err := strconv.ParseInt(c["Bytes per WAL segment"], 10, 64)
	if err != nil || n <= 0 {
		return defaultSegment
	}
	return n
}

// defaultSegment is that of every initdb without --wal-segsize.
const defaultSegment = 16 << 20

// checksums reports whether pages have them.
func (c control) checksums() bool {
	v := c["Data page checksum version"]
	return v != "" && v != "0"
}

// cleanly reports whether the database was shut down.
func (c control) cleanly() bool { return c["Database cluster state"] == "shut down" }

// carried are parameters that recovery goes by, or that would be written into WAL if they were
// others, by their names in the control file.
var carried = [][2]string{
	{"max_connections", "max_connections setting"}, {"max_worker_processes", "max_worker_processes setting"},
	{"max_wal_senders", "max_wal_senders setting"}, {"max_prepared_transactions", "max_prepared_xacts setting"},
	{"max_locks_per_transaction", "max_locks_per_xact setting"}, {"wal_level", "wal_level setting"},
	{"wal_log_hints", "wal_log_hints setting"}, {"track_commit_timestamp", "track_commit_timestamp setting"},
}

// settingOf is the parameter of a target's type.
var settingOf = map[string]string{
	"immediate": "recovery_target", "time": "recovery_target_time", "name": "recovery_target_name", "lsn": "recovery_target_lsn", "xid": "recovery_target_xid",
}

// settings is the whole of PostgreSQL's configuration: it reads no other file.
func settings(j job, c control) string {
	var b strings.Builder
	set := func(name, value string) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
	}
	b.WriteString("# Of a scratch restore of " + j.Cluster + ", written by pgagent.\n")
	set("data_directory", j.data())
	set("hba_file", j.file("hba.conf"))
	set("ident_file", j.file("ident.conf"))
	// Nobody but its own user gets in.
	set("listen_addresses", "")
	set("unix_socket_directories", j.socket())
	set("unix_socket_permissions", "0700")
	set("port", "5432")
	set("ssl", "off")
	// What is finished stays marked as waiting, so that the cluster archives it once the data
	// are its own. Nothing is sent from here.
	set("archive_mode", "on")
	set("archive_command", "")
	// A copy must not take over its original's subscriptions or jobs.
	set("max_logical_replication_workers", "0")
	set("shared_preload_libraries", "")
	set("session_preload_libraries", "")
	set("local_preload_libraries", "")
	set("autovacuum", "off")
	// Queries during recovery would want every parameter to be at least what it ever was on
	// the primary, and hold recovery up where one is less.
	set("hot_standby", "off")
	for _, p := range carried {
		if v := c[p[1]]; v != "" {
			set(p[0], v)
		}
	}
	set("shared_buffers", "128MB")
	set("huge_pages", "off")
	set("logging_collector", "off")
	set("log_destination", "stderr")
	set("log_line_prefix", "")
	set("log_timezone", "UTC")
	set("timezone", "UTC")
	set("lc_messages", "C")
	set("log_checkpoints", "off")
	set("restore_command", restoreCommand(j))
	set("recovery_target_timeline", "latest")
	set("recovery_target_action", "promote")
	if j.Target.Type != plan.TargetLatest {
		set(settingOf[j.Target.Type], j.Target.Setting())
	}
	return b.String()
}

// restoreCommand is how PostgreSQL gets a segment. What is in it was checked to have nothing
// that a shell takes for something else.
func restoreCommand(j job) string {
	if j.Offline {
		return `cp ` + j.wal() + `/%f "%p"`
	}
	// Not in the background: that takes the lock which the sending of the cluster's own WAL
	// needs.
	return fmt.Sprintf(`%s --config=%s --stanza=%s --pg1-path=%s --no-archive-async --log-level-console=off --log-level-file=off --log-level-stderr=error archive-get %%f "%%p"`,
		j.Pgbackrest, j.Config, j.Cluster, j.data())
}

// hba lets its own user in, through a folder that nobody else can enter.
const hba = "local all all trust\n"
