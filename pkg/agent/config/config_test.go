package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/pgctrl/pgctrl/pkg/agent/config"
)

func load(t *testing.T, file string, env map[string]string, args ...string) (config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(f)
	if err := f.Parse(append(args, "--config", path)); err != nil {
		t.Fatal(err)
	}
	return config.Load(f, func(k string) string { return env[k] }, func() (string, error) { return "host1", nil })
}

func TestFlagsThenEnvironmentThenFileThenDefault(t *testing.T) {
	c, err := load(t, "node: fromfile\nlisten: \":1\"\nlog_level: debug\n",
		map[string]string{"PGAGENT_LISTEN": ":2", "PGAGENT_LOG": "json"}, "--log", "console")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{"node": c.Node, "listen": c.Listen, "log": c.Log, "level": c.LogLevel, "state": c.StateDir, "hooks": c.HooksDir, "address": c.Address}
	want := map[string]string{"node": "fromfile", "listen": ":2", "log": "console", "level": "debug", "state": "/var/lib/pgagent", "hooks": "/etc/pgctrl/hooks", "address": "127.0.0.1"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	from := map[string]string{}
	for _, o := range c.Origins {
		from[o.Name], _, _ = strings.Cut(o.From, " ")
	}
	for name, want := range map[string]string{"node": "file", "listen": "environment", "log": "flag", "state_dir": "default", "address": "source"} {
		if from[name] != want {
			t.Errorf("%s comes from %q, want %q", name, from[name], want)
		}
	}
}

func TestNodeIsTheHostName(t *testing.T) {
	c, err := load(t, "endpoints: [http://127.0.0.1:2379, '127.0.0.2:2379']\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Node != "host1" {
		t.Errorf("node %q", c.Node)
	}
	if d := cmp.Diff([]string{"http://127.0.0.1:2379", "http://127.0.0.2:2379"}, c.Endpoints); d != "" {
		t.Error(d)
	}
}

func TestMistakesAreErrors(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"misspelt":      {"endpoint: x", `unknown setting "endpoint"`},
		"twice":         {"node: a\nnode: b", "node"},
		"no YAML":       {"node: [", "read settings"},
		"bad node":      {"node: 'a b'", `node name "a b" is not valid`},
		"no endpoint":   {"endpoints: ''", "at least one URL"},
		"bad listen":    {"listen: 9641", "such as :9641"},
		"relative path": {"state_dir: var", "absolute path"},
		"hooks":         {"hooks_dir: hooks", "hooks_dir: expected an absolute path"},
		"bad prefix":    {"prefix: pgctrl", "such as /pgctrl"},
		"bad level":     {"log_level: loud", "one of debug"},
		"nested":        {"log: {level: info}", "expected a text"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, c.file, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want one about %q", err, c.want)
			}
		})
	}
}
