package pgbouncer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// differs lists what a running PgBouncer has other than its file says, one short
// sentence each, in order: settings, then databases.
func (c *console) differs(ctx context.Context, want config) ([]string, error) {
	settings, err := c.ask(ctx, "SHOW CONFIG")
	if err != nil {
		return nil, err
	}
	databases, err := c.ask(ctx, "SHOW DATABASES")
	if err != nil {
		return nil, err
	}
	return append(differentSettings(want["pgbouncer"], settings), differentDatabases(want["databases"], databases)...), nil
}

func differentSettings(want map[string]string, shown []row) []string {
	has := map[string]string{}
	for _, r := range shown {
		has[r["key"]] = r["value"]
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		switch value, known := has[key]; {
		case !known:
			out = append(out, key+" is not known to it")
		case !same(want[key], value):
			out = append(out, fmt.Sprintf("%s is %q instead of %q", key, value, want[key]))
		}
	}
	return out
}

// columns of SHOW DATABASES for what a database's line sets. PgBouncer 1.24 renamed one.
var columns = map[string][]string{
	"host": {"host"}, "port": {"port"}, "dbname": {"database"}, "pool_mode": {"pool_mode"}, "pool_size": {"pool_size"},
	"min_pool_size": {"min_pool_size"}, "reserve_pool": {"reserve_pool_size", "reserve_pool"}, "max_db_connections": {"max_connections"},
}

func differentDatabases(want map[string]string, shown []row) []string {
	has := map[string]row{}
	for _, r := range shown {
		has[r["name"]] = r
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		r, known := has[name]
		switch {
		case name == "*":
			continue // shown by the databases that clients asked for
		case !known:
			out = append(out, "database "+name+" is not known to it")
			continue
		}
		settings := pairs(want[name])
		for _, key := range slices.Sorted(maps.Keys(settings)) {
			for _, column := range columns[key] {
				if value, there := r[column]; there {
					if !same(settings[key], value) {
						out = append(out, fmt.Sprintf("%s of database %s is %q instead of %q", key, name, value, settings[key]))
					}
					break
				}
			}
		}
	}
	return out
}

// same compares a setting as written with one as shown: 0.1 is 0.100.
func same(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

// needRestart lists the settings that a running PgBouncer has other than its file and
// reads at its start only.
func (c *console) needRestart(ctx context.Context, want config) ([]string, error) {
	shown, err := c.ask(ctx, "SHOW CONFIG")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range shown {
		value, set := want["pgbouncer"][r["key"]]
		if set && r["changeable"] == "no" && !same(value, r["value"]) {
			out = append(out, r["key"])
		}
	}
	return out, nil
}

func list(words []string) string { return strings.Join(words, "; ") }
