package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/internal/scram"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// roleState is a role as PostgreSQL has it.
type roleState struct {
	Name        string   `json:"name"`
	Superuser   bool     `json:"superuser"`
	CreateDB    bool     `json:"createdb"`
	CreateRole  bool     `json:"createrole"`
	Inherit     bool     `json:"inherit"`
	Login       bool     `json:"login"`
	Replication bool     `json:"replication"`
	BypassRLS   bool     `json:"bypassrls"`
	Limit       int      `json:"limit"`
	Until       *int64   `json:"until"`
	Password    *string  `json:"password"`
	Config      []string `json:"config"`
	MemberOf    []string `json:"member_of"`
	Comment     string   `json:"comment"`
	Functions   []string `json:"functions"`
}

// step is one thing to be done: what people are told of it, and the statement.
type step struct {
	what, statement string
}

func words(steps []step) string {
	var out []string
	for _, s := range steps {
		if s.what != "" {
			out = append(out, s.what)
		}
	}
	return strings.Join(out, ", ")
}

func ident(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// literal quotes a text; standard_conforming_strings is on in our sessions.
func literal(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), "'", "''") + "'"
}

// grantee is a role, or everybody.
func grantee(role string) string {
	if role == "PUBLIC" {
		return role
	}
	return ident(role)
}

// roleSteps are what makes a role what it is to be; have is nil when there is none.
// password is the secret, known says that what PostgreSQL keeps is of this very one.
func roleSteps(want plan.Role, have *roleState, password *string, known func(kept string) bool) ([]step, error) {
	name := ident(want.Name)
	switch {
	case want.Absent && have == nil:
		return nil, nil
	case want.Absent:
		return []step{{"dropped", "DROP ROLE " + name}, {"", orphans}}, nil
	}
	var steps []step
	add := func(what, statement string) { steps = append(steps, step{what, statement}) }
	if have == nil {
		// It can't log in before it is all that it is to be: this is one transaction.
		add("made", "CREATE ROLE "+name)
		have = &roleState{Name: want.Name, Inherit: true, Limit: -1}
	}
	for _, o := range []struct {
		word         string
		wanted, here bool
	}{
		{"SUPERUSER", want.Superuser, have.Superuser}, {"CREATEDB", want.CreateDB, have.CreateDB},
		{"CREATEROLE", want.CreateRole, have.CreateRole}, {"INHERIT", want.Inherit, have.Inherit},
		{"LOGIN", want.Login, have.Login}, {"REPLICATION", want.Replication, have.Replication},
		{"BYPASSRLS", want.BypassRLS, have.BypassRLS},
	} {
		if o.wanted == o.here {
			continue
		}
		word := o.word
		if !o.wanted {
			word = "NO" + word
		}
		add(strings.ToLower(word), "ALTER ROLE "+name+" "+word)
	}
	if want.ConnectionLimit != have.Limit {
		add(fmt.Sprintf("connection limit %d", want.ConnectionLimit), fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", name, want.ConnectionLimit))
	}
	if s, differs := untilStep(name, want.ValidUntil, have.Until); differs {
		steps = append(steps, s)
	}
	switch {
	case want.NoPassword && have.Password != nil:
		add("no password", "ALTER ROLE "+name+" PASSWORD NULL")
	case password != nil && (have.Password == nil || !known(*have.Password)):
		v, err := scram.Verifier(*password)
		if err != nil {
			return nil, err
		}
		add("password", "ALTER ROLE "+name+" PASSWORD "+literal(v))
	}
	steps = append(steps, settingSteps("ROLE "+name, want.Parameters, want.Resets, have.Config)...)
	for _, g := range want.MemberOf {
		if !slices.Contains(have.MemberOf, g) {
			add("member of "+g, "GRANT "+ident(g)+" TO "+name)
		}
	}
	for _, g := range want.Leaves {
		if slices.Contains(have.MemberOf, g) {
			add("no member of "+g, "REVOKE "+ident(g)+" FROM "+name)
		}
	}
	for _, f := range want.Functions {
		if !slices.Contains(have.Functions, f) {
			add("may call "+f, "GRANT EXECUTE ON FUNCTION pg_catalog."+f+" TO "+name)
		}
	}
	if want.Key != "" && want.Comment != have.Comment {
		add("comment", "COMMENT ON ROLE "+name+" IS "+literal(want.Comment))
	}
	return steps, nil
}

func untilStep(name, want string, have *int64) (step, bool) {
	if want == "" {
		return step{"valid for ever", "ALTER ROLE " + name + " VALID UNTIL 'infinity'"}, have != nil
	}
	at, err := time.Parse(time.RFC3339, strings.ToUpper(want))
	if err == nil && have != nil && *have == at.Unix() {
		return step{}, false
	}
	return step{"valid until " + want, "ALTER ROLE " + name + " VALID UNTIL " + literal(want)}, true
}

// settingSteps keep the settings of a role or database.
func settingSteps(of string, want map[string]string, resets, have []string) []step {
	is := map[string]string{}
	for _, line := range have {
		name, value, _ := strings.Cut(line, "=")
		is[strings.ToLower(name)] = value
	}
	var steps []step
	for _, name := range slices.Sorted(maps.Keys(want)) {
		now, set := is[name]
		if set && sameSetting(name, now, want[name]) {
			continue
		}
		steps = append(steps, step{name + " = " + want[name], "ALTER " + of + " SET " + settingName(name) + " TO " + settingValue(name, want[name])})
	}
	for _, name := range resets {
		if _, set := is[name]; set {
			steps = append(steps, step{name + " reset", "ALTER " + of + " RESET " + settingName(name)})
		}
	}
	return steps
}

// settingName quotes each part of a name such as pg_stat_statements.track.
func settingName(name string) string { return ident(strings.Split(name, ".")...) }

// lists are the settings that PostgreSQL takes as a list of names; one text with
// commas in it would be one name.
var lists = []string{"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}

func settingValue(name, value string) string {
	if !slices.Contains(lists, name) {
		return literal(value)
	}
	var out []string
	for _, v := range listed(value) {
		out = append(out, literal(v))
	}
	if len(out) == 0 {
		return "''"
	}
	return strings.Join(out, ", ")
}

func listed(value string) []string {
	var out []string
	for _, v := range strings.Split(value, ",") {
		if v = strings.Trim(strings.TrimSpace(v), `"`); v != "" {
			out = append(out, v)
		}
	}
	return out
}

func sameSetting(name, a, b string) bool {
	if slices.Contains(lists, name) {
		return slices.Equal(listed(a), listed(b))
	}
	return a == b
}

// others are the names that nobody described, in order. One with a blank in it no document
// can have, and reports could not tell it from two names.
func others(all []string, described func(string) bool) []string {
	var out []string
	for _, name := range all {
		if !described(name) && !strings.ContainsFunc(name, unicode.IsSpace) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
