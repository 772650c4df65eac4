package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// infra gives infra1 the role infra: the names of clusters, and a Prometheus that looks at
// them.
func infra(ctx context.Context, f *fleet.Fleet) error {
	if _, err := f.Infra.Exec(ctx, "pgagent", "join", "--endpoints", f.Endpoint()); err != nil {
		return err
	}
	if _, err := f.Pgctrl(ctx, "node", "add", f.Infra.Name, f.Infra.IP, "--role", "infra"); err != nil {
		return err
	}
	if err := runs(ctx, f, "dnsmasq", "prometheus"); err != nil {
		return err
	}
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(f.Infra.IP, "53"))
	}}
	for _, name := range []string{cluster, cluster + "-1", cluster + "-replica"} {
		addresses, err := r.LookupHost(ctx, name+".")
		if err != nil {
			return fmt.Errorf("ask infra1 for %s: %w", name, err)
		}
		slices.Sort(addresses)
		say("%s is %s, says dnsmasq on infra1", name, strings.Join(addresses, ", "))
	}
	var up int
	err := fleet.Until(ctx, time.Minute, "Prometheus to find everything up", func(ctx context.Context) error {
		var out struct {
			Data struct {
				ActiveTargets []struct{ Health, ScrapeURL, LastError string }
			}
		}
		if err := get(ctx, "http://"+f.Infra.IP+":9090/api/v1/targets", &out); err != nil {
			return err
		}
		up = 0
		for _, t := range out.Data.ActiveTargets {
			if t.Health != "up" {
				return fmt.Errorf("%s is %s: %s", t.ScrapeURL, t.Health, t.LastError)
			}
			up++
		}
		if up < 3*len(f.Nodes) {
			return fmt.Errorf("%d targets", up)
		}
		return nil
	})
	if err != nil {
		return err
	}
	say("Prometheus on infra1 found %d targets, all up: http://%s:9090/targets", up, f.Infra.IP)
	return nil
}

// logs installs promtail and Loki, which Debian has not, and waits for what they bring.
func logs(ctx context.Context, f *fleet.Fleet) error {
	dir, err := lab.Second(ctx, lab.Loki, lab.NewLog(os.Stderr))
	if err != nil {
		return err
	}
	for _, h := range f.Lab.Hosts() {
		for _, p := range []string{"promtail", "loki"} {
			if err := h.CopyFile(ctx, filepath.Join(dir, p), "/usr/bin/"+p, 0o755); err != nil {
				return err
			}
		}
	}
	if err := runs(ctx, f, "dnsmasq", "prometheus", "loki", "promtail"); err != nil {
		return err
	}
	return fleet.Until(ctx, 2*time.Minute, "every member's lines in Loki", func(ctx context.Context) error {
		var out struct {
			Data struct {
				Result []struct{ Metric map[string]string }
			}
		}
		query := fmt.Sprintf(`count by (member, job) (count_over_time({cluster=%q}[1h]))`, cluster)
		if err := get(ctx, "http://"+f.Infra.IP+":3100/loki/api/v1/query?query="+url.QueryEscape(query), &out); err != nil {
			return err
		}
		jobs := map[string][]string{}
		for _, r := range out.Data.Result {
			jobs[r.Metric["member"]] = append(jobs[r.Metric["member"]], r.Metric["job"])
		}
		for i := range f.Nodes {
			if member := fmt.Sprintf("%s-%d", cluster, i+1); len(jobs[member]) < 4 {
				return fmt.Errorf("of %s there are %v", member, jobs[member])
			}
		}
		for i := range f.Nodes {
			member := fmt.Sprintf("%s-%d", cluster, i+1)
			slices.Sort(jobs[member])
			say("Loki on infra1 has lines of %s on %s: %s", member, f.Nodes[i].Name, strings.Join(jobs[member], ", "))
		}
		return nil
	})
}

// runs waits until the programs are planned somewhere, and run as planned wherever they are.
func runs(ctx context.Context, f *fleet.Fleet, programs ...string) error {
	return fleet.Until(ctx, 2*time.Minute, strings.Join(programs, ", ")+" to run", func(ctx context.Context) error {
		out, err := f.Pgctrl(ctx, "node", "list", "-o", "json")
		if err != nil {
			return err
		}
		var nodes []struct{ Runs []status.Program }
		if err := json.Unmarshal([]byte(out), &nodes); err != nil {
			return err
		}
		var missing []error
		for _, want := range programs {
			planned := false
			for _, n := range nodes {
				for _, p := range n.Runs {
					if planned = planned || p.Program == want; p.Program == want && (!p.Ready || len(p.Conditions) > 0) {
						missing = append(missing, fmt.Errorf("%s on %s: %v", want, p.Node, p.Conditions))
					}
				}
			}
			if !planned {
				missing = append(missing, fmt.Errorf("%s is not planned yet", want))
			}
		}
		return errors.Join(missing...)
	})
}

func get(ctx context.Context, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", address, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(into)
}
