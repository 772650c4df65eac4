package patroni

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/pgctrl/pgctrl/pkg/host/certificate"
	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Local is what the agent needs to know from a Patroni configuration file: how to
// reach that Patroni and its PostgreSQL, and what must be visible of it.
type Local struct {
	Scope, Name string
	// Client reaches the REST API with the file's own credentials.
	Client *Client
	// Postgres is the local PostgreSQL, BinDir its programs.
	Postgres postgres.Config
	BinDir   string
	Headers  map[string]string
	Tags     map[string]any
	// Shows is what PostgreSQL shows to clients that come with TLS.
	Shows certificate.Files
}

// file is the configuration as far as Local goes.
type file struct {
	Scope   string `yaml:"scope"`
	Name    string `yaml:"name"`
	RESTAPI struct {
		Listen         string         `yaml:"listen"`
		Headers        map[string]any `yaml:"http_extra_headers"`
		CertFile       string         `yaml:"certfile"`
		Authentication struct {
			Username string `yaml:"username"`
			Password string `yaml:"password"`
		} `yaml:"authentication"`
	} `yaml:"restapi"`
	PostgreSQL struct {
		Listen     string         `yaml:"listen"`
		BinDir     string         `yaml:"bin_dir"`
		Parameters map[string]any `yaml:"parameters"`
	} `yaml:"postgresql"`
	Tags map[string]any `yaml:"tags"`
}

// ParseLocal reads a configuration file's content.
func ParseLocal(content []byte) (Local, error) {
	var f file
	if err := yaml.Unmarshal(content, &f); err != nil {
		return Local{}, fmt.Errorf("parse Patroni's configuration: %w", err)
	}
	l := Local{Scope: f.Scope, Name: f.Name, BinDir: f.PostgreSQL.BinDir, Headers: map[string]string{}, Tags: f.Tags}
	host, port, err := reach(f.RESTAPI.Listen)
	if err != nil {
		return Local{}, fmt.Errorf("read restapi.listen: %w", err)
	}
	scheme := "http"
	if f.RESTAPI.CertFile != "" {
		scheme = "https"
	}
	l.Client = &Client{URL: scheme + "://" + net.JoinHostPort(host, port),
		User: f.RESTAPI.Authentication.Username, Password: f.RESTAPI.Authentication.Password}
	for k, v := range f.RESTAPI.Headers {
		l.Headers[k] = fmt.Sprint(v)
	}
	if _, port, err = reach(f.PostgreSQL.Listen); err != nil {
		return Local{}, fmt.Errorf("read postgresql.listen: %w", err)
	}
	if l.Postgres.Port, err = strconv.Atoi(port); err != nil {
		return Local{}, fmt.Errorf("read postgresql.listen: %w", err)
	}
	if dirs, ok := f.PostgreSQL.Parameters["unix_socket_directories"].(string); ok {
		first, _, _ := strings.Cut(dirs, ",")
		l.Postgres.Dir = strings.TrimSpace(first)
	}
	l.Shows = filesOf(f.PostgreSQL.Parameters)
	return l, nil
}

// reach is where a listener can be reached from its own host.
func reach(listen string) (host, port string, err error) {
	i := strings.LastIndex(listen, ":")
	if i < 0 {
		return "", "", fmt.Errorf("%q has no port", listen)
	}
	hosts, port := listen[:i], listen[i+1:]
	host, _, _ = strings.Cut(hosts, ",")
	host = strings.Trim(host, "[]")
	switch host {
	case "", "*", "0.0.0.0":
		return "127.0.0.1", port, nil
	case "::":
		return "::1", port, nil
	}
	return host, port, nil
}

var dataDir = regexp.MustCompile(`(?m)^ +data_dir: "([^"]+)"$`)

// DataDir is the data directory that a unit's configuration names; empty: none. The plan's
// file is no YAML yet: its secrets are not in it.
func DataDir(u plan.Unit) string {
	for _, f := range u.Files {
		if m := dataDir.FindStringSubmatch(f.Content); m != nil && isConfig(f.Path) {
			return m[1]
		}
	}
	return ""
}

// readLocal reads the file of a unit as it is in place now, secrets and all.
func readLocal(u plan.Unit) (Local, error) {
	path, err := configPath(u)
	if err != nil {
		return Local{}, err
	}
	return ReadLocal(path)
}

// ReadLocal reads a configuration file in place.
func ReadLocal(path string) (Local, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Local{}, fmt.Errorf("this host has no Patroni configuration yet: %w", err)
	}
	if err != nil {
		return Local{}, fmt.Errorf("read Patroni's configuration: %w", err)
	}
	l, err := ParseLocal(content)
	if err != nil {
		return Local{}, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

func configPath(u plan.Unit) (string, error) {
	for _, f := range u.Files {
		if isConfig(f.Path) {
			return f.Path, nil
		}
	}
	return "", fmt.Errorf("unit %s has no Patroni configuration among its files", u.Unit)
}

func isConfig(path string) bool {
	return strings.HasSuffix(path, ".yml") || strings.HasSuffix(path, ".yaml")
}
