package cli

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// DefaultConfigFile is where settings are read from.
const DefaultConfigFile = "/etc/pgctrl/pgctrl.yaml"

// Settings are what the program goes by, each from the first place that has it:
// flag, environment, file, default.
type Settings struct {
	Endpoints []string
	Timeout   time.Duration
	Layout    keys.Layout
	// File is the settings file that was looked for.
	File   string
	values map[string]origin
}

// origin is a value and where it came from.
type origin struct{ value, source string }

const sourceDefault = "default"

// setting declares one setting. Its name is its place in the file, its
// environment variable is PGCTRL_ and the name in capitals.
type setting struct {
	name, flag, def, help string
}

// declared is the one list of settings; `pgctrl config dump` prints it.
var declared = []setting{
	{"endpoints", "endpoints", "http://127.0.0.1:2379", "client URLs of etcd, separated by commas"},
	{"timeout", "timeout", "5s", "how long to wait for etcd's answer"},
	{"root", "", keys.Default.Root, "prefix of every key of pgctrl"},
	{"namespace", "", keys.Default.Patroni, "Patroni's namespace"},
	{"server.listen", "listen", ":9640", "where the server answers /metrics, /healthz, /readyz"},
	{"server.id", "id", "", "name of this server among servers; the host's name"},
	{"server.log_level", "log-level", "info", "debug, info, warn or error"},
	{"etcd.name", "name", "", "name of this etcd member; the host's name"},
	{"etcd.data_dir", "data-dir", "/var/lib/pgctrl/etcd", "where the embedded etcd keeps its data"},
	{"etcd.advertise", "advertise", "", "address by which other hosts reach the embedded etcd"},
	{"etcd.listen", "listen", "", "addresses on which the embedded etcd listens for clients; advertise and 127.0.0.1"},
	{"etcd.quota", "quota", "2GB", "largest size of the embedded etcd's database"},
	{"etcd.keep", "keep", "5h", "how much of the past the embedded etcd keeps for watchers that were away"},
}

func (s setting) env() string {
	return "PGCTRL_" + strings.ToUpper(strings.ReplaceAll(s.name, ".", "_"))
}

// get is a setting's value.
func (s Settings) get(name string) string { return s.values[name].value }

// source is where a setting's value came from.
func (s Settings) source(name string) string { return s.values[name].source }

// resolve collects the settings for a command.
func resolve(cmd *cobra.Command, getenv func(string) string) (Settings, error) {
	s := Settings{File: DefaultConfigFile, values: map[string]origin{}}
	explicit := false
	if f := getenv("PGCTRL_CONFIG"); f != "" {
		s.File, explicit = f, true
	}
	if f := cmd.Flags().Lookup("config"); f != nil && f.Changed {
		s.File, explicit = f.Value.String(), true
	}
	// Only init may be given a file that it is about to write.
	file, err := readFile(s.File, explicit && cmd.Name() != "init")
	if err != nil {
		return s, err
	}
	for _, d := range declared {
		s.values[d.name] = d.find(cmd, getenv, file, s.File)
	}
	return s, s.parse()
}

func (s setting) find(cmd *cobra.Command, getenv func(string) string, file map[string]string, path string) origin {
	if s.flag != "" {
		if f := cmd.Flags().Lookup(s.flag); f != nil && f.Changed && contains(f.Annotations[settingFlag], s.name) {
			return origin{f.Value.String(), "flag --" + s.flag}
		}
	}
	if v := getenv(s.env()); v != "" {
		return origin{v, "environment " + s.env()}
	}
	if v, ok := file[s.name]; ok {
		return origin{v, "file " + path}
	}
	return origin{s.def, sourceDefault}
}

func (s *Settings) parse() error {
	for _, e := range strings.Split(s.get("endpoints"), ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		if !strings.Contains(e, "://") {
			e = "http://" + e
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	if len(s.Endpoints) == 0 {
		return fail("endpoints: expected at least one URL such as http://10.0.0.1:2379, found %q (from %s)", s.get("endpoints"), s.source("endpoints"))
	}
	s.Layout = keys.Layout{Root: s.get("root"), Patroni: s.get("namespace")}
	var err error
	s.Timeout, err = s.duration("timeout")
	return err
}

func (s Settings) duration(name string) (time.Duration, error) {
	d, err := time.ParseDuration(s.get(name))
	if err != nil || d <= 0 {
		return 0, fail("%s: expected a duration such as 5s, found %q (from %s)", name, s.get(name), s.source(name))
	}
	return d, nil
}

// readFile reads the settings file into dotted names. A file that nobody named
// may be absent.
func readFile(path string, explicit bool) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && !explicit {
		return nil, nil
	}
	if err != nil {
		return nil, fail("settings file: %s", lastWords(err))
	}
	var tree map[string]any
	if err := yaml.Unmarshal(b, &tree); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fail("settings file %s: %s", path, first)
	}
	out := map[string]string{}
	flatten("", tree, out)
	names := make([]string, 0, len(declared))
	for _, d := range declared {
		names = append(names, d.name)
	}
	for _, n := range sortedKeys(out) {
		if !contains(names, n) {
			return nil, fail("settings file %s: unknown setting %q%s", path, n, didYouMean(n, names)).then("pgctrl config dump")
		}
	}
	return out, nil
}

func flatten(prefix string, tree map[string]any, out map[string]string) {
	for k, v := range tree {
		switch v := v.(type) {
		case map[string]any:
			flatten(prefix+k+".", v, out)
		case []any:
			parts := make([]string, len(v))
			for i, p := range v {
				parts[i] = fmt.Sprint(p)
			}
			out[prefix+k] = strings.Join(parts, ",")
		default:
			out[prefix+k] = fmt.Sprint(v)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// settingFlag marks flags that carry a setting, so that another command's flag of
// the same name is not taken for one.
const settingFlag = "setting"

// withSettings gives a command the flags of the named settings.
func withSettings(c *cobra.Command, names ...string) *cobra.Command {
	for _, d := range declared {
		if !contains(names, d.name) {
			continue
		}
		help := d.help
		if d.def != "" {
			help += " (default " + d.def + ")"
		}
		c.Flags().String(d.flag, "", help)
		_ = c.Flags().SetAnnotation(d.flag, settingFlag, []string{d.name})
	}
	return c
}
