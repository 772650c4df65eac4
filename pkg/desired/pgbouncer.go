package desired

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/near"
)

// PgBouncer is the pooler in front of every member: pgbouncer.
type PgBouncer struct {
	Meta                    `yaml:"-"`
	Enabled                 bool           `yaml:"enabled" default:"true" effect:"move" example:"false" says:"false leads pooled services straight to PostgreSQL, and then takes the poolers away."`
	Port                    int            `yaml:"port" default:"6432" min:"1024" max:"65535" own:"true" effect:"move" unit:"TCP port" example:"6532" says:"The port PgBouncer listens on, on every member; a change restarts the poolers, one after another."`
	PoolMode                string         `yaml:"pool_mode" default:"transaction" enum:"session,transaction,statement" effect:"reload" example:"session" says:"When a connection to PostgreSQL is free for the next client: after a transaction, a session or a statement."`
	DefaultPoolSize         int            `yaml:"default_pool_size" default:"20" min:"1" max:"10000" effect:"reload" unit:"connections" example:"50" says:"How many connections to PostgreSQL one user has in one database."`
	MinPoolSize             int            `yaml:"min_pool_size" default:"0" min:"0" max:"10000" effect:"reload" unit:"connections" example:"5" says:"How many of them are kept open although nobody needs them."`
	ReservePoolSize         int            `yaml:"reserve_pool_size" default:"5" min:"0" max:"10000" effect:"reload" unit:"connections" example:"10" says:"How many more there may be when a client has waited for reserve_pool_timeout."`
	ReservePoolTimeout      Duration       `yaml:"reserve_pool_timeout" default:"1s" min:"1s" max:"1h" effect:"reload" example:"3s" says:"How long a client waits before the reserve is used for it."`
	MaxClientConn           int            `yaml:"max_client_conn" default:"10000" min:"10" max:"50000" effect:"reload" unit:"connections" example:"2000" says:"How many clients one pooler takes; further ones are refused."`
	MaxDBConnections        int            `yaml:"max_db_connections" default:"0" min:"0" max:"10000" effect:"reload" unit:"connections" example:"80" says:"How many connections to PostgreSQL all users have in one database; 0 sets no bound."`
	MaxUserConnections      int            `yaml:"max_user_connections" default:"0" min:"0" max:"10000" effect:"reload" unit:"connections" example:"40" says:"How many connections to PostgreSQL one user has in all databases; 0 sets no bound."`
	QueryWaitTimeout        Duration       `yaml:"query_wait_timeout" default:"2m" min:"15s" max:"24h" effect:"reload" example:"30s" says:"A client that got no connection to PostgreSQL for this long is disconnected."`
	ServerLoginRetry        Duration       `yaml:"server_login_retry" default:"100ms" min:"10ms" max:"1m" effect:"reload" example:"1s" says:"How long after a failed login to PostgreSQL the next one is tried; all clients of the pool wait for it."`
	ServerConnectTimeout    Duration       `yaml:"server_connect_timeout" default:"5s" min:"1s" max:"5m" effect:"reload" example:"15s" says:"A login to PostgreSQL that takes longer than this is given up."`
	ServerIdleTimeout       Duration       `yaml:"server_idle_timeout" default:"10m" min:"0s" max:"24h" effect:"reload" example:"1m" says:"A connection to PostgreSQL that nobody used for this long is closed; 0s never does."`
	ServerLifetime          Duration       `yaml:"server_lifetime" default:"1h" min:"0s" max:"24h" effect:"reload" example:"10m" says:"A connection to PostgreSQL is closed at this age once it is free."`
	ClientIdleTimeout       Duration       `yaml:"client_idle_timeout" default:"0s" min:"0s" max:"720h" effect:"reload" example:"8h" says:"A client that says nothing for this long is disconnected; 0s never does."`
	IdleTransactionTimeout  Duration       `yaml:"idle_transaction_timeout" default:"0s" min:"0s" max:"24h" effect:"reload" example:"5m" says:"A client that leaves a transaction open for this long is disconnected; 0s never does."`
	MaxPreparedStatements   int            `yaml:"max_prepared_statements" default:"200" min:"0" max:"100000" effect:"reload" unit:"statements" example:"0" says:"How many of a client's prepared statements are made again on whichever connection it gets, where pools are not by session; 0 leaves that to the client. PgBouncer 1.21 or later; older ones leave it to the client."`
	IgnoreStartupParameters string         `yaml:"ignore_startup_parameters" default:"extra_float_digits" pattern:"^[A-Za-z0-9][A-Za-z0-9_.,-]*$" effect:"reload" example:"options" says:"Parameters that drivers send at login and PgBouncer does not know; those named here are passed by, with others the login fails."`
	LogConnections          bool           `yaml:"log_connections" default:"false" effect:"reload" example:"true" says:"Logs every login and logout of clients and to PostgreSQL."`
	Databases               map[string]any `yaml:"databases" effect:"reload" example:"app.pool_size=50" says:"Settings of one database, as database.setting: pool_mode, pool_size, min_pool_size, reserve_pool, max_db_connections."`
	Users                   map[string]any `yaml:"users" effect:"reload" example:"app.pool_mode=session" says:"Settings of one user, as user.setting: pool_mode, max_user_connections. It takes PgBouncer 1.23: an older one lets such a user not in."`
}

// PoolSetting is one setting of a database or user in the pooler.
type PoolSetting struct {
	// Of is the database or user.
	Of, Name, Value string
}

// PoolSettings lists the entries of Databases or Users in order, those of one together:
// a name may have dots itself, so the entries' own order does not have them so.
func PoolSettings(entries map[string]any) []PoolSetting {
	var out []PoolSetting
	for _, entry := range sortedKeys(entries) {
		i := strings.LastIndexByte(entry, '.')
		out = append(out, PoolSetting{Of: entry[:i], Name: entry[i+1:], Value: scalarValue(entries[entry]).source})
	}
	slices.SortStableFunc(out, func(a, b PoolSetting) int { return strings.Compare(a.Of, b.Of) })
	return out
}

// poolName is what PgBouncer's file can name without quotes, which 1.18 does not
// take there.
const poolName = `[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}`

// The settings that one database and one user can have; 0 marks words.
var (
	databaseSettings = map[string]int64{"pool_mode": 0, "pool_size": 1, "min_pool_size": 0, "reserve_pool": 0, "max_db_connections": 0}
	userSettings     = map[string]int64{"pool_mode": 0, "max_user_connections": 0}
	poolModes        = []string{"session", "transaction", "statement"}
	maxPoolSetting   = int64(10000)
)

// poolPattern is what an entry's name looks like.
func poolPattern(settings map[string]int64) string {
	return "^" + poolName + `\.(` + strings.Join(sortedKeys(settings), "|") + ")$"
}

// poolRule checks entries like "app.pool_size: 50".
func poolRule(of string, settings map[string]int64) *entryRule {
	named := regexp.MustCompile("^" + poolName + "$")
	check := func(entry string, v *value) (string, string, string) {
		i := strings.LastIndexByte(entry, '.')
		if i < 0 || !named.MatchString(entry[:i]) {
			return "", fmt.Sprintf("expected %s.setting, where the %s is letters, digits, _, - and ., found %s", of, of, quote(entry)), ""
		}
		name, setting := entry[:i], entry[i+1:]
		least, known := settings[setting]
		switch {
		case !known:
			return "", fmt.Sprintf("expected a setting of a %s (%s), found %s", of, strings.Join(sortedKeys(settings), ", "), quote(setting)),
				near.Hint(setting, sortedKeys(settings))
		case name == "pgbouncer" && of == "database":
			return "", "expected another database; pgbouncer is PgBouncer's own console", ""
		case setting == "pool_mode":
			for _, m := range poolModes {
				if v.source == m {
					return entry, "", ""
				}
			}
			return "", fmt.Sprintf("expected %s, found %s", strings.Join(poolModes, ", "), v.found()), near.Hint(v.source, poolModes)
		}
		if n, ok := v.scalar.(int64); !ok || n < least || n > maxPoolSetting {
			return "", fmt.Sprintf("expected a number from %d to %d, found %s", least, maxPoolSetting, v.found()), ""
		}
		return entry, "", ""
	}
	return &entryRule{check: check, pattern: poolPattern(settings)}
}

var _ = register(Kind{
	Name:    "pgbouncer",
	Meaning: "The pooler in front of every member, which the pooled services go through.",
	store:   func(c *Cluster, _ string, doc any) { c.PgBouncer = *doc.(*PgBouncer) },
}, PgBouncer{}, map[string]*entryRule{
	"databases": poolRule("database", databaseSettings),
	"users":     poolRule("user", userSettings),
})
