package haproxy

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Bind is one address a configuration listens on.
type Bind struct {
	Line int
	Host string // "" is every address
	Port int
}

// String is the bind as the configuration writes it.
func (b Bind) String() string { return net.JoinHostPort(b.Host, strconv.Itoa(b.Port)) }

// parseBinds reads the bind lines of a configuration. It knows what our template
// writes (addresses and ports, several separated by commas); a unix socket is not
// an address here.
func parseBinds(cfg string) ([]Bind, error) {
	var out []Bind
	n := 0
	for line := range strings.Lines(cfg) {
		n++
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "bind" {
			continue
		}
		for _, addr := range strings.Split(f[1], ",") {
			if strings.HasPrefix(addr, "/") || strings.Contains(addr, "@") {
				continue
			}
			host, p, ok := hostPort(addr)
			if !ok || p < 1 || p > 65535 {
				return nil, fmt.Errorf("line %d: bind %s: expected an address and, behind the last colon, a port", n, addr)
			}
			if host == "*" || host == "0.0.0.0" || host == "::" {
				host = ""
			}
			out = append(out, Bind{Line: n, Host: host, Port: p})
		}
	}
	return out, nil
}

// hostPort splits an address as HAProxy does: the port is behind the last colon,
// whether an IPv6 address before it is in brackets or not, as in ":::5433".
func hostPort(s string) (host string, port int, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	port, err := strconv.Atoi(s[i+1:])
	return strings.Trim(s[:i], "[]"), port, err == nil
}

// ReadRoutes finds the routes in a configuration of ours: which backends there are,
// their servers, and from the path of the health check what each is for. It is for
// the moment when nobody can be asked for the plan. A backend it can't tell the
// purpose of counts as read-write, which is the careful answer.
func ReadRoutes(cfg string) map[string]plan.Route {
	out := map[string]plan.Route{}
	backend := ""
	for line := range strings.Lines(cfg) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		switch f[0] {
		case "global", "defaults", "frontend", "peers", "resolvers", "userlist":
			backend = ""
		case "listen", "backend":
			if len(f) > 1 {
				backend = f[1]
			}
		case "server":
			if s, ok := readServer(f); ok && backend != "" {
				r := out[backend]
				if r.Role == "" {
					r.Role = plan.RoutePrimary
				}
				r.Servers = append(r.Servers, s)
				out[backend] = r
			}
		default:
			if backend != "" && isHTTPCheck(f) {
				r := out[backend]
				r.Role = roleOfCheck(f)
				out[backend] = r
			}
		}
	}
	for b, r := range out {
		if len(r.Servers) == 0 {
			delete(out, b)
		}
	}
	return out
}

func isHTTPCheck(f []string) bool {
	return len(f) > 1 && (f[0] == "option" && f[1] == "httpchk" || f[0] == "http-check" && f[1] == "send")
}

func roleOfCheck(f []string) plan.RouteRole {
	for _, w := range f {
		path, _, _ := strings.Cut(w, "?")
		switch path {
		case "/replica", "/read-only", "/sync", "/async", "/health":
			return plan.RouteReplica
		}
	}
	return plan.RoutePrimary
}

// readServer reads "server NAME ADDRESS:PORT [check] [port N] [weight N] ...". One that
// is a backup is no member: it is where clients wait while no member is up, and stays up.
func readServer(f []string) (plan.RouteServer, bool) {
	if len(f) < 3 {
		return plan.RouteServer{}, false
	}
	host, port, ok := hostPort(f[2])
	if !ok || slices.Contains(f[3:], "backup") {
		return plan.RouteServer{}, false
	}
	s := plan.RouteServer{Name: f[1], Address: host, Port: port}
	for i := 3; i+1 < len(f); i++ {
		switch f[i] {
		case "port":
			s.CheckPort, _ = strconv.Atoi(f[i+1])
		case "weight":
			s.Weight, _ = strconv.Atoi(f[i+1])
		}
	}
	return s, true
}
