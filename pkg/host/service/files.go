package service

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Environment reads what the unit's files of environment (*.env) set: systemd's
// EnvironmentFile as we write it, a variable a line, the value bare or in double quotes.
func Environment(u plan.Unit) map[string]string {
	out := map[string]string{}
	for _, f := range u.Files {
		if !strings.HasSuffix(f.Path, ".env") {
			continue
		}
		for line := range strings.Lines(f.Content) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || strings.HasPrefix(name, "#") {
				continue
			}
			if inner, ok := strings.CutPrefix(value, `"`); ok {
				value = strings.TrimSuffix(inner, `"`)
			}
			out[name] = value
		}
	}
	return out
}

// PortFromEnvironment reads the port from a variable that holds an address to listen on.
func PortFromEnvironment(name string) func(plan.Unit) (int, error) {
	return func(u plan.Unit) (int, error) {
		listen, ok := Environment(u)[name]
		if !ok {
			return 0, fmt.Errorf("%s: no file sets %s, which says where it listens", u.Unit, name)
		}
		_, text, err := net.SplitHostPort(listen)
		if err != nil {
			return 0, fmt.Errorf("%s: %s: expected an address such as :9630, found %q", u.Unit, name, listen)
		}
		return port(u, text)
	}
}

// PortFromLine reads the port from the first line of a YAML file that sets the key, such
// as http_listen_port.
func PortFromLine(key string) func(plan.Unit) (int, error) {
	return func(u plan.Unit) (int, error) {
		for _, f := range u.Files {
			for line := range strings.Lines(f.Content) {
				if text, ok := strings.CutPrefix(strings.TrimSpace(line), key+":"); ok {
					return port(u, strings.TrimSpace(text))
				}
			}
		}
		return 0, fmt.Errorf("%s: no file sets %s, which says where it listens", u.Unit, key)
	}
}

func port(u plan.Unit, text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("%s: expected a port, found %q", u.Unit, text)
	}
	return n, nil
}
