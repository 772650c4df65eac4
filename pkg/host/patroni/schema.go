package patroni

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// rule says what a value may be; it returns what is wrong, without the path.
type rule func(v any) string

// node is a place in the configuration: a value with a rule, or a mapping with
// known names. Names that are not known are mistakes unless open is set.
type node struct {
	rule     rule
	fields   map[string]node
	open     bool
	required bool
}

func must(n node) node                       { n.required = true; return n }
func value(r rule) node                      { return node{rule: r} }
func mapping(fields map[string]node) node    { return node{fields: fields} }
func openMapping(known map[string]node) node { return node{fields: known, open: true} }

var credentials = mapping(map[string]node{
	"username": must(value(text)), "password": value(secret),
	"sslmode": value(text), "sslcert": value(text), "sslkey": value(text), "sslpassword": value(secret),
	"sslrootcert": value(text), "sslcrl": value(text), "sslcrldir": value(text), "gssencmode": value(text), "channel_binding": value(text),
})

// localSchema is the file. It knows what Patroni 3.0 to 4.x reads; sections of
// other stores than etcd v3 are left out, because pgctrl's Patroni uses that one.
var localSchema = mapping(map[string]node{
	"scope": must(value(name)), "name": must(value(name)), "namespace": value(text),
	"restapi": must(mapping(map[string]node{
		"listen": must(value(listenAddress)), "connect_address": must(value(connectAddress)),
		"authentication": credentials,
		"certfile":       value(text), "keyfile": value(text), "keyfile_password": value(secret), "cafile": value(text), "ciphers": value(text),
		"verify_client": value(oneOf("none", "optional", "required")),
		"allowlist":     value(list(text)), "allowlist_include_members": value(boolean),
		"http_extra_headers": openMapping(nil), "https_extra_headers": openMapping(nil),
		"request_queue_size": value(integer(1)), "server_tokens": value(text),
	})),
	"etcd3": must(mapping(map[string]node{
		"hosts": value(addresses), "host": value(connectable), "url": value(text), "proxy": value(text), "srv": value(text), "srv_suffix": value(text),
		"protocol": value(oneOf("http", "https")), "username": value(text), "password": value(secret),
		"cacert": value(text), "cert": value(text), "key": value(text), "use_proxies": value(boolean),
	})),
	"bootstrap": mapping(map[string]node{
		"dcs": dynamicSchema, "initdb": value(list(any1)), "method": value(text), "pg_hba": value(list(text)),
		"post_bootstrap": value(text), "post_init": value(text),
		// A method of ours, by which a cluster begins with another one's backup.
		"pgctrl": mapping(map[string]node{
			"command": must(value(text)), "no_params": value(boolean), "recovery_conf": openMapping(nil),
		}),
	}),
	"postgresql": must(openMapping(map[string]node{
		"listen": must(value(listenAddress)), "connect_address": must(value(connectAddress)), "proxy_address": value(connectAddress),
		"data_dir": must(value(absolute)), "bin_dir": value(absolute), "config_dir": value(absolute), "pgpass": value(absolute),
		"use_unix_socket": value(boolean), "use_unix_socket_repl": value(boolean),
		"authentication": must(mapping(map[string]node{
			"superuser": must(credentials), "replication": must(credentials), "rewind": credentials})),
		"parameters": openMapping(nil), "pg_hba": value(list(text)), "pg_ident": value(list(text)),
		"pg_ctl_timeout": value(integer(1)), "use_pg_rewind": value(boolean), "use_slots": value(boolean),
		"create_replica_methods": value(list(text)), "basebackup": value(any1), "callbacks": openMapping(nil),
		"recovery_conf": openMapping(nil), "pgbackrest": mapping(map[string]node{"command": must(value(text))}),
		"remove_data_directory_on_rewind_failure": value(boolean), "remove_data_directory_on_diverged_timelines": value(boolean),
	})),
	"watchdog": mapping(map[string]node{
		"mode": value(watchdogMode), "device": value(absolute), "safety_margin": value(integer(-1))}),
	"tags": openMapping(map[string]node{
		"nofailover": value(boolean), "noloadbalance": value(boolean), "clonefrom": value(boolean), "nosync": value(boolean), "nostream": value(boolean),
		"replicatefrom": value(text), "failover_priority": value(integer(0)), "sync_priority": value(integer(0))}),
	"log": openMapping(map[string]node{"level": value(oneOf("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))}),
	"ctl": openMapping(nil),
})

// dynamicSchema is the configuration in etcd. Patroni converts the numbers with
// int() and gives up on the whole configuration when one fails.
var dynamicSchema = mapping(map[string]node{
	"ttl": value(integer(20)), "loop_wait": value(integer(1)), "retry_timeout": value(integer(3)),
	"maximum_lag_on_failover": value(integer(0)), "maximum_lag_on_syncnode": value(integer(-1)), "max_timelines_history": value(integer(0)),
	"primary_start_timeout": value(integer(0)), "primary_stop_timeout": value(integer(0)),
	"master_start_timeout": value(integer(0)), "master_stop_timeout": value(integer(0)),
	"synchronous_mode": value(syncMode), "synchronous_mode_strict": value(boolean), "synchronous_node_count": value(integer(1)),
	"failsafe_mode": value(boolean), "check_timeline": value(boolean), "pause": value(boolean), "member_slots_ttl": value(any1),
	"slots": openMapping(nil), "ignore_slots": value(list(any1)), "standby_cluster": openMapping(nil),
	"postgresql": openMapping(map[string]node{
		"parameters": openMapping(startupParameters), "pg_hba": value(list(text)), "pg_ident": value(list(text)),
		"use_pg_rewind": value(boolean), "use_slots": value(boolean),
	}),
})

// startupParameters are those that Patroni hands to PostgreSQL on its command line.
// It takes int() of them, and drops one below its bound without a word.
var startupParameters = map[string]node{
	"wal_level":       value(oneOf("hot_standby", "replica", "logical")),
	"max_connections": value(integer(25)), "max_wal_senders": value(integer(3)), "max_prepared_transactions": value(integer(0)),
	"max_locks_per_transaction": value(integer(32)), "max_replication_slots": value(integer(4)), "max_worker_processes": value(integer(2)),
}

// checkLocal judges a whole configuration file and returns it parsed.
func checkLocal(content []byte) (map[string]any, []string) {
	var m map[string]any
	if err := yaml.Unmarshal(content, &m); err != nil {
		return nil, []string{"not YAML: " + strings.Join(strings.Fields(yaml.FormatError(err, false, false)), " ")}
	}
	doc, _ := normal(m).(map[string]any)
	problems := localSchema.check("", doc)
	bootstrap, _ := doc["bootstrap"].(map[string]any)
	dcs, _ := bootstrap["dcs"].(map[string]any)
	return doc, append(problems, checkTiming("bootstrap.dcs.", dcs)...)
}

// checkDynamic judges the part of the dynamic configuration that is ours, and the
// timing of what results.
func checkDynamic(wanted, result map[string]any) []string {
	w, _ := normal(wanted).(map[string]any)
	return append(dynamicSchema.check("", w), checkTiming("", result)...)
}

// checkTiming: a primary has to have tried twice and given up before its lease ends.
// From 3.2 on Patroni changes such values by itself; before, it runs with them.
func checkTiming(path string, m map[string]any) []string {
	get := func(key string, def int64) int64 {
		if n, ok := whole(m[key]); ok {
			return n
		}
		return def
	}
	ttl, loop, retry := get("ttl", 30), get("loop_wait", 10), get("retry_timeout", 10)
	if loop+2*retry > ttl {
		return []string{fmt.Sprintf("%sttl: %d is less than loop_wait + 2 * retry_timeout = %d", path, ttl, loop+2*retry)}
	}
	return nil
}

func (n node) check(path string, v any) []string {
	if n.rule != nil {
		if wrong := n.rule(v); wrong != "" {
			return []string{path + ": " + wrong}
		}
		return nil
	}
	if v == nil {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return []string{path + ": " + show(v) + " is not a mapping"}
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(n.fields)) {
		if n.fields[k].required && m[k] == nil {
			out = append(out, join(path, k)+": is missing")
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		f, known := n.fields[k]
		switch {
		case m[k] == nil: // unset, or removed
		case known:
			out = append(out, f.check(join(path, k), m[k])...)
		case !n.open:
			out = append(out, join(path, k)+": Patroni knows no such setting")
		}
	}
	return out
}

func join(path, k string) string { return strings.TrimPrefix(path+"."+k, ".") }

func whole(v any) (int64, bool) {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		return n, err == nil
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}

func any1(any) string { return "" }

func text(v any) string {
	if _, ok := v.(string); !ok {
		return show(v) + " is not text"
	}
	return ""
}

// secret is text that no message shows (R11).
func secret(v any) string {
	if _, ok := v.(string); !ok {
		return "is not text"
	}
	return ""
}

func name(v any) string {
	if s, ok := v.(string); !ok || s == "" || strings.ContainsAny(s, "/ \t\n") {
		return show(v) + " is not a name"
	}
	return ""
}

func boolean(v any) string {
	if _, ok := v.(bool); ok {
		return ""
	}
	if s, ok := v.(string); ok && slices.Contains([]string{"on", "off", "true", "false", "yes", "no"}, strings.ToLower(s)) {
		return ""
	}
	return show(v) + " is not true or false"
}

func integer(least int64) rule {
	return func(v any) string {
		n, ok := whole(v)
		switch {
		case !ok:
			return show(v) + " is not a whole number"
		case n < least:
			return fmt.Sprintf("%d is less than %d, the least Patroni takes", n, least)
		}
		return ""
	}
}

func oneOf(words ...string) rule {
	return func(v any) string {
		if s, ok := v.(string); ok && slices.Contains(words, s) {
			return ""
		}
		return show(v) + " is not one of " + strings.Join(words, ", ")
	}
}

// syncMode is true or false, and "quorum" from 4.0 on.
func syncMode(v any) string {
	if v == "quorum" {
		return ""
	}
	return boolean(v)
}

// watchdogMode may have come through YAML 1.1, where off is false.
func watchdogMode(v any) string {
	if v == false {
		return ""
	}
	return oneOf("off", "automatic", "required")(v)
}

func absolute(v any) string {
	if s, ok := v.(string); !ok || !strings.HasPrefix(s, "/") {
		return show(v) + " is not an absolute path"
	}
	return ""
}

func list(item rule) rule {
	return func(v any) string {
		items, ok := v.([]any)
		if !ok {
			return show(v) + " is not a list"
		}
		for i, it := range items {
			if wrong := item(it); wrong != "" {
				return fmt.Sprintf("entry %d: %s", i+1, wrong)
			}
		}
		return ""
	}
}

func splitAddress(v any) (host string, wrong string) {
	s, ok := v.(string)
	if !ok {
		return "", show(v) + " is not an address with a port"
	}
	i := strings.LastIndex(s, ":")
	if i < 1 {
		return "", show(v) + " is not an address with a port"
	}
	if p, err := strconv.Atoi(s[i+1:]); err != nil || p < 1 || p > 65535 {
		return "", fmt.Sprintf("%s: %s is not a port", s, s[i+1:])
	}
	return strings.Trim(s[:i], "[]"), ""
}

func listenAddress(v any) string { _, wrong := splitAddress(v); return wrong }
func connectable(v any) string   { return listenAddress(v) }

// connectAddress is what others are told, so it can't be the host's own loopback
// or every address. Patroni's validator has the same rule.
func connectAddress(v any) string {
	host, wrong := splitAddress(v)
	if wrong != "" {
		return wrong
	}
	if ip := net.ParseIP(host); host == "*" || host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		return fmt.Sprintf("others can't reach this member at %s", host)
	}
	return ""
}

// addresses is a list, or one text with commas.
func addresses(v any) string {
	if s, ok := v.(string); ok {
		for _, a := range strings.Split(s, ",") {
			if wrong := connectable(strings.TrimSpace(a)); wrong != "" {
				return wrong
			}
		}
		return ""
	}
	if items, ok := v.([]any); ok && len(items) == 0 {
		return "is empty"
	}
	return list(connectable)(v)
}
