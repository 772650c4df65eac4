// Package config is the agent's settings: each from the first place that has it,
// flag, environment, file, default. Reading is strict, because a misspelt setting
// that is silently its default is found out on the day it was needed.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// DefaultFile is where settings are read from. It may be absent.
const DefaultFile = "/etc/pgctrl/agent.yaml"

// Config is what the agent goes by.
type Config struct {
	Node      string
	Endpoints []string
	// Address is where other nodes reach this one; empty when it is not set and can't
	// be found out now, as at a boot before the network is up. See FindAddress.
	Address  string
	StateDir string
	Listen   string
	Socket   string
	// HooksDir is the folder of the programs that hooks may name.
	HooksDir string
	Layout   keys.Layout
	Log      string
	LogLevel string
	// File is the settings file that was looked for.
	File string
	// Origins says of every setting where it came from, in the order of Settings.
	Origins []Origin
}

// Origin is one setting as it came out.
type Origin struct {
	Name        string `json:"name"`
	Value       string `json:"value"`
	From        string `json:"from"`
	Environment string `json:"environment"`
	Help        string `json:"meaning"`
}

// setting declares one setting; its environment variable is PGAGENT_ and the name
// in capitals, its flag the name with dashes.
type setting struct {
	name, def, help string
}

// settings is the one list of them; `pgagent config dump` prints it.
var settings = []setting{
	{"node", "", "this node's name; the host name"},
	{"endpoints", "http://127.0.0.1:2379", "client URLs of etcd, separated by commas"},
	{"address", "", "where other nodes reach this one; the source address towards etcd"},
	{"state_dir", "/var/lib/pgagent", "where plans are kept for a start without etcd"},
	{"listen", ":9641", "where /metrics, /healthz and /readyz answer"},
	{"socket", "/run/pgctrl/agent.sock", "the control socket, for root alone"},
	{"hooks_dir", "/etc/pgctrl/hooks", "where programs are that hooks may run; root's alone to change"},
	{"prefix", keys.Default.Root, "prefix of every key of pgctrl"},
	{"namespace", keys.Default.Patroni, "Patroni's namespace"},
	{"log", "auto", "json, console, or auto: console on a terminal"},
	{"log_level", "info", "debug, info, warn or error"},
}

func flagName(name string) string { return strings.ReplaceAll(name, "_", "-") }
func envName(name string) string  { return "PGAGENT_" + strings.ToUpper(name) }

// AddFlags gives a command the flags of every setting.
func AddFlags(f *pflag.FlagSet) {
	f.String("config", DefaultFile, "settings file")
	for _, s := range settings {
		help := s.help
		if s.def != "" {
			help += " (default " + s.def + ")"
		}
		f.String(flagName(s.name), "", help)
	}
}

// Load finds every setting and checks it. getenv and hostname are the process's own.
func Load(flags *pflag.FlagSet, getenv func(string) string, hostname func() (string, error)) (Config, error) {
	c := Config{File: DefaultFile}
	explicit := false
	if v := getenv("PGAGENT_CONFIG"); v != "" {
		c.File, explicit = v, true
	}
	if f := flags.Lookup("config"); f != nil && f.Changed {
		c.File, explicit = f.Value.String(), true
	}
	file, err := readFile(c.File, explicit)
	if err != nil {
		return c, err
	}
	values := map[string]string{}
	for _, s := range settings {
		o := s.find(flags, getenv, file, c.File)
		c.Origins = append(c.Origins, o)
		values[s.name] = o.Value
	}
	return c, c.fill(values, hostname)
}

func (s setting) find(flags *pflag.FlagSet, getenv func(string) string, file map[string]string, path string) Origin {
	o := Origin{Name: s.name, Value: s.def, From: "default", Environment: envName(s.name), Help: s.help}
	if f := flags.Lookup(flagName(s.name)); f != nil && f.Changed {
		o.Value, o.From = f.Value.String(), "flag --"+f.Name
	} else if v := getenv(o.Environment); v != "" {
		o.Value, o.From = v, "environment"
	} else if v, ok := file[s.name]; ok {
		o.Value, o.From = v, "file "+path
	}
	return o
}

// fill turns texts into settings, and finds out what has no fixed default.
func (c *Config) fill(v map[string]string, hostname func() (string, error)) error {
	var err error
	if c.Endpoints, err = endpoints(v["endpoints"]); err != nil {
		return err
	}
	if c.Node = v["node"]; c.Node == "" {
		if c.Node, err = hostname(); err != nil {
			return fmt.Errorf("node: %w; set it in %s", err, c.File)
		}
		c.found("node", c.Node, "host name")
	}
	if err := keys.CheckNode(c.Node); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if c.Address = v["address"]; c.Address == "" {
		from := "source address towards " + c.Endpoints[0]
		if c.Address, err = sourceAddress(c.Endpoints[0]); err != nil {
			from = err.Error()
		}
		c.found("address", c.Address, from)
	}
	c.StateDir, c.Listen, c.Socket, c.HooksDir = v["state_dir"], v["listen"], v["socket"], v["hooks_dir"]
	for name, path := range map[string]string{"state_dir": c.StateDir, "socket": c.Socket, "hooks_dir": c.HooksDir} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%s: expected an absolute path, found %q", name, path)
		}
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: expected an address such as :9641, found %q", c.Listen)
	}
	c.Layout = keys.Layout{Root: v["prefix"], Patroni: v["namespace"]}
	for name, p := range map[string]string{"prefix": c.Layout.Root, "namespace": c.Layout.Patroni} {
		if !strings.HasPrefix(p, "/") || strings.Trim(p, "/") == "" {
			return fmt.Errorf("%s: expected a key prefix such as /pgctrl, found %q", name, p)
		}
	}
	c.Log, c.LogLevel = v["log"], v["log_level"]
	if err := oneOf("log", c.Log, "auto", "json", "console"); err != nil {
		return err
	}
	return oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error")
}

// found records a value that was worked out rather than set.
func (c *Config) found(name, value, from string) {
	for i := range c.Origins {
		if c.Origins[i].Name == name {
			c.Origins[i].Value, c.Origins[i].From = value, from
		}
	}
}

func oneOf(name, value string, choices ...string) error {
	if slices.Contains(choices, value) {
		return nil
	}
	return fmt.Errorf("%s: expected one of %s, found %q", name, strings.Join(choices, ", "), value)
}

func endpoints(s string) ([]string, error) {
	var out []string
	for _, e := range strings.Split(s, ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		if !strings.Contains(e, "://") {
			e = "http://" + e
		}
		if u, err := url.Parse(e); err != nil || u.Hostname() == "" {
			return nil, fmt.Errorf("endpoints: expected URLs such as http://10.0.0.1:2379, found %q", e)
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("endpoints: expected at least one URL such as http://10.0.0.1:2379, found %q", s)
	}
	return out, nil
}

// FindAddress is Address, or what it would be found to be now.
func (c Config) FindAddress() string {
	for _, o := range c.Origins {
		if o.Name == "address" && (o.Value == "" || strings.HasPrefix(o.From, "source")) {
			if a, err := sourceAddress(c.Endpoints[0]); err == nil {
				return a
			}
		}
	}
	return c.Address
}

// sourceAddress is the address from which packets to etcd leave; none is sent.
func sourceAddress(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	port := u.Port()
	if port == "" {
		port = "2379"
	}
	conn, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return "", fmt.Errorf("find the source address towards %s: %w", endpoint, err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP.String(), nil
}

// readFile reads the settings file. One that nobody named may be absent.
func readFile(path string, explicit bool) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !explicit {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	var tree map[string]any
	if err := yaml.UnmarshalWithOptions(b, &tree, yaml.Strict()); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fmt.Errorf("read settings %s: %s", path, first)
	}
	out := map[string]string{}
	for name, v := range tree {
		if !slices.ContainsFunc(settings, func(s setting) bool { return s.name == name }) {
			return nil, fmt.Errorf("read settings %s: unknown setting %q; `pgagent config dump` lists them", path, name)
		}
		switch v := v.(type) {
		case []any:
			parts := make([]string, len(v))
			for i, p := range v {
				parts[i] = fmt.Sprint(p)
			}
			out[name] = strings.Join(parts, ",")
		case map[string]any:
			return nil, fmt.Errorf("read settings %s: %s: expected a text, found fields", path, name)
		case nil:
		default:
			out[name] = fmt.Sprint(v)
		}
	}
	return out, nil
}
