package desired

import (
	"strings"
	"testing"
)

func TestSetFields(t *testing.T) {
	const commented = `# the main cluster
port: 5440  # agreed with networks

# tuned by ana
parameters:
  # reports need much
  work_mem: 64MB   # 2024
  TimeZone: UTC

# timings
ttl: 40s
`
	for _, c := range []struct {
		name, document, text, set, want string
	}{
		{"new", "members/c-1", "", "node=pg1|weight=50", "node: pg1\nweight: 50\n"},
		{"one order", "members/c-1", "", "weight=50|node=pg1", "node: pg1\nweight: 50\n"},
		{"last wins", "members/c-1", "", "weight=50|weight=60", "weight: 60\n"},
		{"keeps the comment behind", "postgres", commented, "port=5441", strings.Replace(commented, "5440", "5441", 1)},
		{"deep", "postgres", commented, "parameters.work_mem=32MB", strings.Replace(commented, "64MB   #", "32MB  #", 1)},
		{"ignores case", "postgres", commented, "parameters.timezone=CET", strings.Replace(commented, "UTC", "CET", 1)},
		{"appends below", "postgres", commented, "parameters.pg_stat_statements.max=1000",
			strings.Replace(commented, "UTC\n", "UTC\n  pg_stat_statements.max: 1000\n", 1)},
		{"appends at the end", "postgres", commented, "loop_wait=5s", commented + "loop_wait: 5s\n"},
		{"no change, no byte", "postgres", commented, "ttl=40s|port=5440", commented},
		{"no line break at the end", "postgres", "port: 5440", "ttl=40s", "port: 5440\nttl: 40s\n"},
		{"JSON", "postgres", `{"port": 5440, "parameters": {"work_mem": "1MB"}}`, "parameters.work_mem=2MB",
			"port: 5440\nparameters:\n  work_mem: 2MB\n"},
		{"flow below", "postgres", "parameters: {a: 1} # x\nport: 5440\n", "parameters.b=yes", "parameters:\n  a: 1\n  b: yes\nport: 5440\n"},
		{"from empty braces", "postgres", "{}\n", "port=5440", "port: 5440\n"},
		{"only a comment", "postgres", "# mine\n", "port=5440", "# mine\nport: 5440\n"},
		{"list with brackets", "nodes/pg1", "", "roles=[infra, proxy]", "roles: [infra, proxy]\n"},
		{"list without", "nodes/pg1", "", "roles=infra,proxy", "roles: [infra, proxy]\n"},
		{"text looks like a number", "members/c-1", "", "node=12", "node: \"12\"\n"},
		{"off is text", "postgres", "", "synchronous_mode=off", "synchronous_mode: off\n"},
		{"types of entries", "members/c-1", "", "tags.a=true|tags.b=010|tags.c=yes|tags.d='5'",
			"tags:\n  a: true\n  b: 10\n  c: yes\n  d: \"5\"\n"},
		{"shell text", "postgres", "", `parameters.search_path="$user", public`, "parameters:\n  search_path: \"\\\"$user\\\", public\"\n"},
		{"percent", "postgres", "", "parameters.log_line_prefix=%m [%p] ", "parameters:\n  log_line_prefix: \"%m [%p]\"\n"},
		{"map merges", "postgres", "parameters:\n  a: 1\n", "parameters={b: 2}", "parameters:\n  a: 1\n  b: 2\n"},
		{"equals in the value", "postgres", "", "parameters.x=a=b", "parameters:\n  x: \"a=b\"\n"},
		{"default", "defaults/services/primary", "", "port=6000", "port: 6000\n"},
		{"literal text before", "members/c-1", "tags:\n  a: |-\n    # no comment\nnode: pg1\n", "node=pg2",
			"tags:\n  a: |-\n    # no comment\nnode: pg2\n"},
		{"repairs", "postgres", "prot: 1\n", "port=5440", "prot: 1\nport: 5440\n"},
		{"windows", "postgres", "port: 5440\r\nttl: 40s\r\n", "port=5441", "port: 5441\nttl: 40s\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := SetFields(c.document, []byte(c.text), strings.Split(c.set, "|"))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestSetFieldsErrors(t *testing.T) {
	for _, c := range []struct{ document, text, set, want string }{
		{"nodes/pg1", "", "adress=10.10.10.8", `nodes/pg1: unknown field "adress"; did you mean "address"?`},
		{"nodes/pg1", "", "address=10.10.10.8/24", `nodes/pg1: address: expected an IP address, found "10.10.10.8/24"; did you mean "10.10.10.8"?`},
		{"postgres", "", "port=many", `postgres: port: expected a whole number from 1024 to 65535, found "many"`},
		{"postgres", "", "port=", `postgres: port: expected a whole number from 1024 to 65535, found nothing; to have the default again: pgctrl unset`},
		{"postgres", "", "port", `postgres: expected field=value, found "port"`},
		{"postgres", "", "ttl=30", `postgres: ttl: expected a duration from 20s to 1h, found 30; a number needs a unit; did you mean "30s"?`},
		{"postgres", "", "parameters=5", `postgres: parameters: expected a mapping, such as "name: value", found 5`},
		{"postgres", "", "parameters.port=5", `postgres: parameters.port: pgctrl sets this parameter; set the field port of this document instead`},
		{"postgres", "", "a=1|ttl=1s", "postgres: unknown field \"a\"\npostgres: ttl: expected a duration from 20s to 1h, found \"1s\""},
		{"postgres", "a: [", "port=5440", `postgres: line 1, column 4: expected YAML: sequence end token ']' not found`},
		{"defaults/members", "", "node=pg1", `defaults/members: node: expected a field that all members can share, found one that each has for itself`},
		{"postgers", "", "port=1", `unknown document "postgers"; did you mean "postgres"?`},
		{"hooks/a", "", "address=1", `hooks/a: unknown field "address"`},
		{"hooks/a", "", "filter.nod=pg1", `hooks/a: unknown field "filter.nod"; did you mean "filter.node"?`},
		{"hooks/a", "", "webhook.url=https://u:p@h/", `hooks/a: webhook.url: expected an address such as "https://hooks.example.org/pgctrl", without a login or fragment, found another one`},
		{"hooks/a", "", "command.program=/bin/sh", `hooks/a: command.program: expected the name of a program's file such as "page-oncall", without a folder, found "/bin/sh"`},
		{"hooks/a", "", "timeout=10m", `hooks/a: timeout: expected a duration from 100ms to 5m, found "10m"`},
		{"vip", "", "adress=10.10.10.8/24", `vip: unknown field "adress"; did you mean "address"?`},
		{"vip", "", "address=10.10.10.8", `vip: address: expected an IP address with the length of its network, found "10.10.10.8"; did you mean "10.10.10.8/24"?`},
		{"vip", "", "address=10.10.10.0/24", `vip: address: expected the address of a host in 10.10.10.0/24, found "10.10.10.0/24"`},
		{"vip", "", "address=10.10.10.255/24", `vip: address: expected the address of a host in 10.10.10.0/24, found "10.10.10.255/24"`},
		{"vip", "", "address=127.0.0.2/8", `vip: address: expected an address that other hosts can reach, found "127.0.0.2/8"`},
		{"vip", "", "interface=a b", `vip: interface: expected text, found "a b"`},
	} {
		_, err := SetFields(c.document, []byte(c.text), strings.Split(c.set, "|"))
		if err == nil || err.Error() != c.want {
			t.Errorf("set %s %s:\ngot  %v\nwant %s", c.document, c.set, err, c.want)
		}
	}
}

func TestUnset(t *testing.T) {
	const text = "# head\nport: 5440 # x\nprot: 1\nparameters:\n  a: 1\n  # about b\n  b.c: 2\nttl: 40s\n"
	for _, c := range []struct{ name, fields, want string }{
		{"first", "port", "# head\nprot: 1\nparameters:\n  a: 1\n  # about b\n  b.c: 2\nttl: 40s\n"},
		{"entry", "parameters.b.c", "# head\nport: 5440 # x\nprot: 1\nparameters:\n  a: 1\n  # about b\nttl: 40s\n"},
		{"all entries", "parameters.a|parameters.b.c", "# head\nport: 5440 # x\nprot: 1\nttl: 40s\n"},
		{"the map", "parameters", "# head\nport: 5440 # x\nprot: 1\nttl: 40s\n"},
		{"what is not there", "loop_wait|parameters.z", text},
		{"what should not be there", "prot", "# head\nport: 5440 # x\nparameters:\n  a: 1\n  # about b\n  b.c: 2\nttl: 40s\n"},
	} {
		got, err := Unset("postgres", []byte(text), strings.Split(c.fields, "|"))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\ngot:\n%s\nwant:\n%s", c.name, err, got, c.want)
		}
	}
	if got, err := Unset("postgres", []byte("port: 5440\n"), []string{"port"}); err != nil || string(got) != "{}\n" {
		t.Errorf("last field: %q, %v", got, err)
	}
	_, err := Unset("postgres", nil, []string{"prot"})
	want(t, err.Error(), `postgres: unknown field "prot"; did you mean "port"?`)
}
