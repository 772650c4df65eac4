package postgres

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
)

// baseParameters are what an operator of a highly available PostgreSQL expects and
// PostgreSQL does not do by itself. A document overrides any of them.
var baseParameters = map[string]any{
	"wal_level":             "replica",
	"max_wal_senders":       10,
	"max_replication_slots": 10,
	// Enough for a replica that restarts when slots are off; with slots they hold it.
	"wal_keep_size": "128MB",
	// A replica asks again this soon when its slot is not there yet or its leader has
	// just changed. With PostgreSQL's 5 s a new replica runs that long without a word
	// from the leader, and a move in that time loses what was written in it.
	"wal_retrieve_retry_interval": "1s",
	// Switching archiving on later would cost a restart; this archives nothing.
	"archive_mode":    "on",
	"archive_command": archivesNothing,

	"password_encryption": "scram-sha-256",
	"track_io_timing":     "on",

	// To standard error, so that systemd's journal has it beside Patroni's own lines.
	"log_destination":             "stderr",
	"logging_collector":           "off",
	"log_line_prefix":             "%m [%p] %q%u@%d ",
	"log_checkpoints":             "on",
	"log_lock_waits":              "on",
	"log_autovacuum_min_duration": "1min",
}

// dynamicConfig is Patroni's dynamic configuration: the bootstrap section of the
// file and what the leader's agent keeps in force afterwards are this one answer.
func dynamicConfig(p *desired.Postgres, archiving map[string]any) map[string]any {
	parameters := maps.Clone(baseParameters)
	maps.Copy(parameters, archiving)
	for name, value := range p.Parameters {
		parameters[name] = setting(value)
	}
	out := map[string]any{
		"ttl":                     p.TTL.Seconds(),
		"loop_wait":               p.LoopWait.Seconds(),
		"retry_timeout":           p.RetryTimeout.Seconds(),
		"maximum_lag_on_failover": p.MaximumLagOnFailover.Bytes(),
		"synchronous_mode":        synchronous(p.SynchronousMode),
		"synchronous_node_count":  p.SynchronousNodeCount,
		"synchronous_mode_strict": p.SynchronousMode == "strict",
		"failsafe_mode":           p.FailsafeMode,
		"postgresql": map[string]any{
			"use_pg_rewind": p.UsePgRewind,
			"use_slots":     p.UseSlots,
			"parameters":    parameters,
		},
	}
	if slots := permanentSlots(p); len(slots) > 0 {
		out["slots"] = slots
	}
	return out
}

// permanentSlots are the slots that Patroni makes on every leader.
func permanentSlots(p *desired.Postgres) map[string]any {
	out := map[string]any{}
	for _, s := range p.SlotList() {
		slot := map[string]any{"type": s.Type}
		if s.Database != "" {
			slot["database"], slot["plugin"] = s.Database, s.Plugin
		}
		if !s.Absent {
			out[s.Name] = slot
		}
	}
	return out
}

// withDropped is the configuration with null for every slot that is to be dropped: Patroni
// drops what is not in its configuration. One that no document mentions any more is left
// there: it holds WAL for somebody.
func withDropped(config map[string]any, p *desired.Postgres) map[string]any {
	out := maps.Clone(config)
	slots := permanentSlots(p)
	for _, s := range p.SlotList() {
		if s.Absent {
			slots[s.Name] = nil
		}
	}
	if len(slots) > 0 {
		out["slots"] = slots
	}
	return out
}

// leftSlots are the slots in Patroni's configuration that no document mentions.
func leftSlots(in controllers.Input, t *topology.Topology) []observed.Condition {
	e, ok := in.Snapshot.Get(in.Layout.Scope(t.Formed.Scope) + "config")
	if !ok {
		return nil
	}
	c, err := patroni.ParseConfig(e.Value)
	slots, _ := c.All["slots"].(map[string]any)
	if err != nil {
		return nil
	}
	known := map[string]bool{}
	for _, s := range t.Docs.Postgres.SlotList() {
		known[s.Name] = true
	}
	var out []observed.Condition
	for _, name := range slices.Sorted(maps.Keys(slots)) {
		if known[name] {
			continue
		}
		kind := "physical"
		if slot, is := slots[name].(map[string]any); is && slot["type"] != nil {
			kind = fmt.Sprint(slot["type"])
		}
		out = append(out, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.Unmanaged, Key: in.Layout.ClusterDoc(in.Cluster, "postgres"),
			Message: fmt.Sprintf("slot %s (%s) is in no document; Patroni keeps it on every leader, and it holds WAL until somebody reads it", name, kind),
			Next:    fmt.Sprintf("pgctrl set %s postgres slots.%s.type=%s ... (to keep it), or slots.%s.state=absent (to drop it)", in.Cluster, name, kind, name),
		})
	}
	return out
}

// synchronous is Patroni's word for the mode; quorum is one from 4.0 on.
func synchronous(mode string) any {
	if mode == "quorum" {
		return mode
	}
	return mode != "off"
}

// setting is a parameter's value as PostgreSQL writes it. Patroni reads booleans
// from YAML as True, which PostgreSQL would not understand everywhere.
func setting(value any) any {
	if b, ok := value.(bool); ok {
		if b {
			return "on"
		}
		return "off"
	}
	return value
}

// forgottenParameters are parameters that an earlier plan set. Patroni merges what
// it is given, so a parameter that no document has any more must be said to be
// gone. Parameters that somebody else put there are not touched.
func forgottenParameters(in controllers.Input, t *topology.Topology) []string {
	names := map[string]bool{}
	for _, m := range t.Members {
		s := t.Stored(in, m.Node, Concern)
		if s == nil || s.Head.UID != t.Formed.UID {
			continue
		}
		for _, name := range s.Head.Parameters {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// withForgotten is the configuration with null for every forgotten parameter.
func withForgotten(config map[string]any, forgotten []string) map[string]any {
	out := maps.Clone(config)
	section := maps.Clone(config["postgresql"].(map[string]any))
	parameters := maps.Clone(section["parameters"].(map[string]any))
	for _, name := range forgotten {
		if _, set := parameters[name]; !set {
			parameters[name] = nil
		}
	}
	section["parameters"], out["postgresql"] = parameters, section
	return out
}

// tags are Patroni's tags of one member. An offline member never leads, but keeps
// answering 200 on /replica (noloadbalance would take it out of its own service).
// Patroni below 3.2 does not know failover_priority and passes it by.
func tags(m *desired.Member) map[string]any {
	out := map[string]any{}
	maps.Copy(out, m.Tags)
	if m.Delayed() {
		out["nosync"] = true // a commit must not wait for what is replayed late on purpose
	}
	switch {
	case !m.CanLead():
		out["nofailover"] = true
	case m.FailoverPriority > 1:
		out["failover_priority"] = m.FailoverPriority
	}
	return out
}

// newcomer reports whether a member carries nobody's session yet: it is still
// copying or initialising, or was never started. Others must be able to change
// meanwhile, since it is them who let it in.
func newcomer(in controllers.Input, t *topology.Topology, node string, r *observed.Report) bool {
	name := t.Plan(node, "").Cluster.Member
	e, ok := in.Snapshot.Get(in.Layout.Members(t.Formed.Scope) + name)
	if !ok {
		return topology.NothingLoaded(r)
	}
	m, err := patroni.ParseMember(name, e.Value)
	if err != nil {
		return false
	}
	switch m.State {
	case "creating replica", "initializing new cluster", "initdb failed", "running custom bootstrap script", "custom bootstrap failed":
		return true
	}
	return m.Role == patroni.Uninitialized
}
