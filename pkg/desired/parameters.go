package desired

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/near"
)

// parameterPattern is PostgreSQL's rule for setting names: a name, or two with a
// dot for those of extensions.
const parameterPattern = `^[A-Za-z_][A-Za-z0-9_$]{0,62}(\.[A-Za-z_][A-Za-z0-9_$]{0,62})*$`

var parameterName = regexp.MustCompile(parameterPattern)

const (
	patroniSets = "Patroni sets this parameter itself"
	setsTLS     = "pgctrl sets this parameter, for PgBouncer too"
	commandLine = "pgctrl takes no command line from a document"
)

// refusedParameters are the parameters a document can't set, and what to do instead.
var refusedParameters = map[string][2]string{
	"listen_addresses":          {"pgctrl sets this parameter from the node's address", "change nodes/<node>: address"},
	"port":                      {"pgctrl sets this parameter", "set the field port of this document instead"},
	"data_directory":            {"pgctrl sets this parameter", "set the field data_directory of this document instead"},
	"cluster_name":              {"Patroni sets this parameter to the cluster's name", ""},
	"hot_standby":               {"Patroni sets this parameter; replicas always take reads", ""},
	"synchronous_standby_names": {patroniSets, "set the field synchronous_mode of this document instead"},
	"primary_conninfo":          {patroniSets, ""},
	"primary_slot_name":         {patroniSets, ""},
	"promote_trigger_file":      {patroniSets, ""},
	"recovery_target":           {patroniSets, ""},
	"recovery_target_action":    {patroniSets, ""},
	"recovery_target_inclusive": {patroniSets, ""},
	"recovery_target_lsn":       {patroniSets, ""},
	"recovery_target_name":      {patroniSets, ""},
	"recovery_target_time":      {patroniSets, ""},
	"recovery_target_timeline":  {patroniSets, ""},
	"recovery_target_xid":       {patroniSets, ""},
	"config_file":               {patroniSets, ""},
	"hba_file":                  {patroniSets, ""},
	"ident_file":                {patroniSets, ""},
	"external_pid_file":         {patroniSets, ""},
	"include":                   {"pgctrl reads no other files", "write the parameters here"},
	"include_dir":               {"pgctrl reads no other files", "write the parameters here"},
	"include_if_exists":         {"pgctrl reads no other files", "write the parameters here"},
	"unix_socket_directories":   {"pgctrl sets this parameter; its agent uses the socket", ""},
	"archive_command":           {commandLine, ""},
	"archive_cleanup_command":   {commandLine, ""},
	"recovery_end_command":      {commandLine, ""},
	"restore_command":           {commandLine, ""},
	"ssl":                       {setsTLS, "set the field tls of this document instead"},
	"ssl_cert_file":             {setsTLS, "set the field tls_certificate of this document instead"},
	"ssl_key_file":              {setsTLS, "set the field tls_key of this document instead"},
	"ssl_ca_file":               {setsTLS, "set the field tls_authority of this document instead"},
	"ssl_passphrase_command":    {commandLine, ""},
	"wal_keep_segments":         {"PostgreSQL 13 replaced this parameter", "set wal_keep_size instead"},
}

// patroniFloor: Patroni silently takes its own default for a value below these
// (CMDLINE_OPTIONS in its postgresql/config.py), so a document must not have one.
var patroniFloor = map[string]int64{
	"max_connections": 25, "max_wal_senders": 3, "max_prepared_transactions": 0,
	"max_locks_per_transaction": 32, "max_replication_slots": 4, "max_worker_processes": 2,
}

func checkParameter(name string, v *value) (canonical, wrong, hint string) {
	if !parameterName.MatchString(name) {
		return "", "expected a parameter name: a letter, then letters, digits and _, found " + quote(name), ""
	}
	// PostgreSQL and Patroni ignore case (TimeZone, timezone); one spelling makes
	// merging and comparing honest.
	name = strings.ToLower(name)
	if why, refused := refusedParameters[name]; refused {
		return "", why[0], why[1]
	}
	if least, ok := patroniFloor[name]; ok {
		if n, isInt := v.scalar.(int64); isInt && n < least {
			return "", fmt.Sprintf("expected at least %d, below which Patroni takes its own default, found %d", least, n), ""
		}
	}
	if level := strings.ToLower(v.source); name == "wal_level" && level != "replica" && level != "logical" {
		return "", "expected replica or logical, found " + v.found(), near.Hint(level, []string{"replica", "logical"})
	}
	return name, "", ""
}

// restartParameters are the ones PostgreSQL takes only at its start (context
// postmaster in pg_settings, versions 13 to 18).
var restartParameters = strings.Fields(`
	allow_alter_system archive_mode autovacuum_freeze_max_age autovacuum_max_workers autovacuum_multixact_freeze_max_age
	autovacuum_worker_slots bonjour bonjour_name commit_timestamp_buffers debug_io_direct
	dynamic_shared_memory_type event_source huge_page_size huge_pages io_max_combine_limit
	io_max_concurrency io_method jit_provider logging_collector max_active_replication_origins max_connections
	max_files_per_process max_locks_per_transaction max_logical_replication_workers max_notify_queue_pages
	max_pred_locks_per_transaction max_prepared_transactions max_replication_slots max_wal_senders max_worker_processes
	min_dynamic_shared_memory multixact_member_buffers multixact_offset_buffers notify_buffers old_snapshot_threshold
	reserved_connections serializable_buffers shared_buffers shared_memory_type
	shared_preload_libraries subtransaction_buffers superuser_reserved_connections track_activity_query_size
	track_commit_timestamp transaction_buffers unix_socket_group unix_socket_permissions wal_buffers wal_decode_buffer_size
	wal_level wal_log_hints
	pg_stat_statements.max cron.database_name cron.use_background_workers
	timescaledb.max_background_workers pg_prewarm.autoprewarm pg_wait_sampling.history_size`)

// parameterEffect says what a change of the parameter does. It is a forecast for
// people; what really waits for a restart is read from pg_settings by the agent.
func parameterEffect(name string) Effect {
	if slices.Contains(restartParameters, strings.ToLower(name)) {
		return Restart
	}
	return Reload
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
