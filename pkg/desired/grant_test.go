package desired

import (
	"strings"
	"testing"
)

func TestParseGrant(t *testing.T) {
	for text, want := range map[string]string{
		"CONNECT ON DATABASE TO app":                           "CONNECT|DATABASE|||app",
		"connect , temp on database to Public":                 "CONNECT,TEMPORARY|DATABASE|||PUBLIC",
		"SELECT, INSERT ON ALL TABLES IN SCHEMA public TO app": "SELECT,INSERT|ALL TABLES IN SCHEMA|public||app",
		"select on table sales.orders to app":                  "SELECT|TABLE|sales|orders|app",
		"ALL PRIVILEGES ON SCHEMA sales TO app":                "USAGE,CREATE|SCHEMA|sales||app",
		"EXECUTE ON ALL FUNCTIONS IN SCHEMA s TO app":          "EXECUTE|ALL FUNCTIONS IN SCHEMA|s||app",
		"USAGE ON SEQUENCE s.q TO app":                         "USAGE|SEQUENCE|s|q|app",
		"SELECT ON DATABASE TO app":                            "!",
		"SELECT INSERT ON TABLE s.t TO app":                    "!",
		"SELECT, ON TABLE s.t TO app":                          "!",
		"SELECT ON TABLE t TO app":                             "!",
		"SELECT ON TABLE s.t FROM app":                         "!",
		"SELECT ON TABLE s.t TO app; DROP TABLE x":             "!",
		"SELECT ON TABLE s.t TO app WITH GRANT OPTION":         "!",
		"SELECT ON SCHEMA TO app":                              "!",
		"ON SCHEMA s TO app":                                   "!",
		"":                                                     "!",
		`SELECT ON TABLE "s"."t" TO app`:                       "!",
		"SELECT ON ALL TABLES IN SCHEMA public; TO app":        "!",
		"CREATE ON TABLESPACE x TO app":                        "!",
		"SELECT ON ALL ALL TABLES IN SCHEMA public TO app":     "!",
		"SELECT ON TABLE s.t.u TO app":                         "SELECT|TABLE|s|t.u|app",
		"SELECT,SELECT ON ALL SEQUENCES IN SCHEMA s TO app":    "SELECT|ALL SEQUENCES IN SCHEMA|s||app",
	} {
		p, wrong := ParseGrant(text, "TO")
		got := strings.Join([]string{strings.Join(p.Privileges, ","), p.On, p.Schema, p.Object, p.Role}, "|")
		if wrong != "" {
			got = "!"
		}
		if got != want {
			t.Errorf("%q is %s (%s), want %s", text, got, wrong, want)
		}
	}
}

func TestNamesThatAreKept(t *testing.T) {
	for _, name := range []string{"postgres", "rewind", "pgctrl_x", "pg_monitor", "public", "none", "a b", ""} {
		if checkUserName(name) == nil {
			t.Errorf("user %q is let through", name)
		}
	}
	for _, name := range []string{"template1", "pgbouncer", "a/b"} {
		if checkDatabaseName(name) == nil {
			t.Errorf("database %q is let through", name)
		}
	}
}

// TestGrantedAndRevoked: the same can't be both; what is said of one table and of all can.
func TestGrantedAndRevoked(t *testing.T) {
	for doc, bad := range map[string]bool{
		`{grants: [CONNECT ON DATABASE TO app], revokes: [ALL ON DATABASE FROM app]}`:                                               true,
		`{grants: [CONNECT ON DATABASE TO app], revokes: [CONNECT ON DATABASE FROM PUBLIC]}`:                                        false,
		`{grants: ["SELECT, INSERT ON TABLE s.t TO app"], revokes: ["UPDATE ON TABLE s.t FROM app", INSERT ON TABLE s.u FROM app]}`: false,
		`{grants: [SELECT ON ALL TABLES IN SCHEMA s TO app], revokes: [SELECT ON TABLE s.t FROM app]}`:                              false,
		`{grants: [SELECT ON ALL TABLES IN SCHEMA s TO app], revokes: [SELECT ON ALL TABLES IN SCHEMA s FROM app]}`:                 true,
	} {
		c := Load(fleet("clusters/c/databases/shop", doc), l, "c")
		if got := say(c.Problems); strings.Contains(got, "revokes: ") != bad {
			t.Errorf("%s: problems %q", doc, got)
		}
	}
	for _, name := range []string{"PUBLIC", "Public"} { // grants to everybody would be meant
		if checkUserName(name) == nil {
			t.Errorf("user %q is let through", name)
		}
	}
}

// TestRulesNameWhatExists: a name that a user or database may have, a rule can say.
func TestRulesNameWhatExists(t *testing.T) {
	c := Load(fleet("clusters/c/users/1app", "{}", "clusters/c/databases/2024", "{owner: 1app}",
		"clusters/c/hba/app", `{databases: ["2024"], users: [1app, "+2"], addresses: [all]}`), l, "c")
	if len(c.Problems) > 0 {
		t.Error(say(c.Problems))
	}
}
