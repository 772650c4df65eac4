package desired

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compile(t *testing.T, kind string) *jsonschema.Schema {
	t.Helper()
	text, err := Schema(kind)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(kind+".json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(kind + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemaAgreesWithParser(t *testing.T) {
	for _, c := range []struct {
		kind, text string
		ok         bool
	}{
		{"nodes", "address: 10.0.0.1\nroles: [infra, proxy]", true},
		{"nodes", "address: 2001:db8::1", true},
		{"nodes", "address: somewhere", false},
		{"nodes", "adress: 10.0.0.1", false},
		{"nodes", "address: 10.0.0.1\nroles: [web]", false},
		{"nodes", "address: 10.0.0.1\nroles: [infra, infra]", false},
		{"nodes", "roles: []", false},
		{"members", "node: pg1\ntags: {clonefrom: true, site: a, n: 1.5}\nweight: 0\noffline: true", true},
		{"members", "node: pg1\nweight: 257", false},
		{"members", "node: pg1\ntags: {nofailover: true}", false},
		{"members", "node: pg1\ntags: {a: [1]}", false},
		{"members", "node: pg1\noffline: 1", false},
		{"postgres", "{}", true},
		{"postgres", "ttl: 30s\nmaximum_lag_on_failover: 1MB\nsynchronous_mode: strict\nparameters: {pg_stat_statements.max: 1000, jit: false}", true},
		{"postgres", "ttl: 30", false},
		{"postgres", "maximum_lag_on_failover: 1mb", false},
		{"postgres", "synchronous_mode: sometimes", false},
		{"postgres", "parameters: {port: 5}", false},
		{"postgres", "parameters: {a b: 5}", false},
		{"postgres", "data_directory: /data/pg", true},
		{"postgres", "data_directory: data", false},
		{"postgres", "port: 80", false},
		{"services", "port: 5433\nrole: primary\nmax_lag: 0B\nconnect_timeout: 250ms", true},
		{"services", "backend: pooler", false},
		{"pgbouncer", "databases: {app.pool_size: 5}\nusers: {app.pool_mode: session}", true},
		{"pgbouncer", "databases: {app.pool_sise: 5}", false},
		{"services", "rise: 0", false},
		{"backup", "repository: s3\ns3: {endpoint: \"s3.example.org:9000\", bucket: b-1}\nschedules: {full: \"0 1 * * 0\"}\nretention: {full: 7}", true},
		{"backup", "s3: {endpoint: 10.0.0.9}", false},
		{"backup", "s3: {endpoint: \"https://s3.example.org\"}", false},
		{"backup", "s3: {bucket: B}", false},
		{"backup", "schedules: daily", false},
		{"backup", "schedule.full: daily", false},
		{"backup", "retention: {full: 0}", false},
		{"backup", "compress: bz2", false},
		{"hooks", "events: [leader.*]\nwebhook: {url: \"https://hooks.example.org/?a=b\"}", true},
		{"hooks", "command: {program: page, arguments: [-v, -v]}\nbefore: [restart]", true},
		{"hooks", "webhook: {url: \"https://me:secret@hooks.example.org\"}", false},
		{"hooks", "webhook: {url: \"ftp://hooks.example.org\"}", false},
		{"hooks", "command: {program: /bin/sh}", false},
		{"hooks", "filter: {severity: loud}", false},
		{"hooks", "before: [backup]", false},
	} {
		var value any
		if err := yaml.Unmarshal([]byte(c.text), &value); err != nil {
			t.Fatal(err)
		}
		// Through JSON, so that the validator sees what an editor's would.
		text, _ := json.Marshal(value)
		value, _ = jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err := compile(t, c.kind).Validate(value); (err == nil) != c.ok {
			t.Errorf("schema of %s, %q: %v", c.kind, c.text, err)
		}
		k := registry[c.kind]
		_, ps := k.decode("k", []byte(c.text))
		if c.kind == "nodes" {
			ps = Validate(l, l.Node("n"), []byte(c.text))
		}
		if (len(ps) == 0) != c.ok {
			t.Errorf("parser of %s, %q: %v", c.kind, c.text, ps)
		}
	}
}

func TestSchemaFilesAreCurrent(t *testing.T) {
	for _, k := range Kinds() {
		text, _ := Schema(k.Name)
		file := filepath.Join("../../configs/schema", k.Name+".json")
		if on, err := os.ReadFile(file); err != nil || !bytes.Equal(on, text) {
			t.Errorf("%s is not current: run go generate ./pkg/desired", file)
		}
	}
}

func TestFieldsAreDescribed(t *testing.T) {
	for _, k := range Kinds() {
		if k.Meaning == "" || len(k.Fields) == 0 {
			t.Errorf("%s: no meaning or no fields", k.Name)
		}
		for _, f := range Fields(k.Name) {
			if f.Default == "" && f.DefaultNote == "" && !f.Required && f.Type != Map && f.Type != List {
				t.Errorf("%s.%s: nothing says what its default is", k.Name, f.Path)
			}
		}
	}
	if Fields("nothing") != nil || len(Complete("postgres", "use_")) != 2 || len(Fields("defaults/members")) != 7 {
		t.Error("lookups")
	}
}
