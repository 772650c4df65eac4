package inventory

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // dpkg's own checksum of configuration files; nothing depends on it being hard to forge
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Wants is what a plan needs for itself on a host.
type Wants struct {
	// PostgresPorts are ports that a member's PostgreSQL will listen on.
	PostgresPorts []int
	// HAProxy says that the plan runs a HAProxy of its own.
	HAProxy bool
	// PgBouncer says that the plan runs a PgBouncer of its own.
	PgBouncer bool
	// Adopt is a unit of the distribution that the plan uses as it is; empty: none.
	Adopt string
	// PostgresExporter and Prometheus say that the plan runs one of its own. Debian's
	// exporter of PgBouncer needs no word: its unit is bound to Debian's pgbouncer.service.
	PostgresExporter, Prometheus bool
	// Ports are all other ports that must be free or ours.
	Ports []int
}

// ours are the units that pgctrl itself runs: what they hold is not in the way.
var ours = []string{"patroni@", "haproxy@", "pgbouncer@", "postgres-exporter@", "pgbouncer-exporter@", "pgbackrest-server@", "pgagent.service", "pgctrl-"}

func isOurs(unit string) bool {
	for _, o := range ours {
		if strings.HasPrefix(unit, o) {
			return true
		}
	}
	return false
}

// Takeover makes room for a plan and says in a sentence each what it did; doing
// nothing is normal. It may be repeated at any time and is cheap when there is
// nothing to do. What it may not stop is a *plan.Refusal with reason PortInUse.
func (h *Host) Takeover(ctx context.Context, w Wants) ([]string, error) {
	var did []string
	if len(w.PostgresPorts) > 0 {
		clusters, err := h.debianClusters()
		if err != nil {
			return did, err
		}
		for _, c := range clusters {
			said, err := h.takeCluster(ctx, c, w.PostgresPorts)
			did = append(did, said...)
			if err != nil {
				return did, err
			}
		}
	}
	for _, s := range w.services() {
		said, err := h.takeService(ctx, s)
		did = append(did, said...)
		if err != nil {
			return did, err
		}
	}
	if w.Adopt != "" {
		st, err := h.Systemd.Status(ctx, w.Adopt)
		if err != nil {
			return did, err
		}
		if err := h.note(Taken{Unit: w.Adopt, Active: running(st), Enabled: st.Enabled(), Adopted: true}); err != nil {
			return did, err
		}
	}
	return did, h.free(append(append([]int(nil), w.PostgresPorts...), w.Ports...))
}

// FreeFor refuses a port that anybody but the unit itself listens on.
func (h *Host) FreeFor(port int, unit string) error {
	held, err := h.Listening(port)
	if err != nil {
		return err
	}
	for _, l := range held {
		if l.Unit == unit {
			continue
		}
		return &plan.Refusal{
			Reason: observed.PortInUse, Message: fmt.Sprintf("port %d is held by %s", port, l),
			Next: fmt.Sprintf("ss -ltnp 'sport = :%d'", port),
		}
	}
	return nil
}

// free refuses when a wanted port is held by somebody else.
func (h *Host) free(ports []int) error {
	if len(ports) == 0 {
		return nil
	}
	held, err := h.Listening(ports...)
	if err != nil {
		return err
	}
	for _, l := range held {
		if isOurs(l.Unit) {
			continue
		}
		r := &plan.Refusal{
			Reason:  observed.PortInUse,
			Message: fmt.Sprintf("port %d is held by %s", l.Address.Port(), l),
		}
		if strings.HasSuffix(l.Unit, ".service") {
			r.Next = "systemctl disable --now " + strings.TrimSuffix(l.Unit, ".service")
		}
		return r
	}
	return nil
}

// service is a service that a package starts when it is installed.
type service struct {
	unit, pkg string
	// files are the package's configuration. As long as they are as shipped, nobody
	// relies on the service.
	files []string
}

// services are those in the way of a plan.
func (w Wants) services() []service {
	var out []service
	if w.HAProxy {
		out = append(out, service{"haproxy.service", "haproxy", []string{"/etc/haproxy/haproxy.cfg", "/etc/default/haproxy"}})
	}
	if w.PgBouncer {
		out = append(out, service{"pgbouncer.service", "pgbouncer",
			[]string{"/etc/pgbouncer/pgbouncer.ini", "/etc/pgbouncer/userlist.txt", "/etc/default/pgbouncer"}})
	}
	if w.PostgresExporter {
		const exporter = "prometheus-postgres-exporter"
		out = append(out, service{exporter + ".service", exporter, []string{"/etc/default/" + exporter}})
	}
	if w.Prometheus {
		out = append(out, service{"prometheus.service", "prometheus", []string{"/etc/prometheus/prometheus.yml", "/etc/default/prometheus"}})
	}
	return out
}

// takeService stops and disables a service that nobody configured. One that
// somebody did is left alone; if it holds a wanted port, free says so.
func (h *Host) takeService(ctx context.Context, s service) ([]string, error) {
	st, err := h.Systemd.Status(ctx, s.unit)
	if err != nil {
		return nil, err
	}
	if !st.Exists() || st.Masked() || !running(st) && !st.Enabled() {
		return nil, nil
	}
	shipped, err := h.asShipped(s.pkg, s.files)
	if err != nil || !shipped || h.overridden(s.unit) {
		return nil, err
	}
	if err := h.note(Taken{Unit: s.unit, Active: running(st), Enabled: st.Enabled()}); err != nil {
		return nil, err
	}
	if err := h.Systemd.Stop(ctx, s.unit); err != nil {
		return nil, err
	}
	if err := h.Systemd.Disable(ctx, s.unit); err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("stopped and disabled %s, which had the package's own configuration", s.unit)}, nil
}

// overridden reports whether somebody gave a service settings past its package's files:
// `systemctl edit` writes into these places.
func (h *Host) overridden(unit string) bool {
	for _, pattern := range []string{"/etc/systemd/system/" + unit, "/etc/systemd/system/" + unit + ".d/*.conf"} {
		if found, err := filepath.Glob(h.path(pattern)); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}

func running(st systemd.State) bool {
	return st.ActiveState != "inactive" && st.ActiveState != "failed" && st.ActiveState != ""
}

// asShipped compares configuration files with the checksums that dpkg noted when
// it installed them. A file that the package doesn't list, or that is gone, is not.
func (h *Host) asShipped(pkg string, paths []string) (bool, error) {
	sums, err := h.conffiles(pkg)
	if err != nil {
		return false, err
	}
	for _, p := range paths {
		want, listed := sums[p]
		if !listed {
			return false, nil
		}
		b, err := os.ReadFile(h.path(p))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("compare %s with its package: %w", p, err)
		}
		sum := md5.Sum(b) //nolint:gosec // see the import
		if hex.EncodeToString(sum[:]) != want {
			return false, nil
		}
	}
	return true, nil
}

// conffiles reads a package's configuration files and checksums from dpkg's
// database: stanzas separated by empty lines, a field's further lines indented.
func (h *Host) conffiles(pkg string) (map[string]string, error) {
	b, err := os.ReadFile(h.path("/var/lib/dpkg/status"))
	if err != nil {
		return nil, fmt.Errorf("read dpkg's database: %w", err)
	}
	out := map[string]string{}
	at := bytes.Index(append([]byte("\n"), b...), []byte("\nPackage: "+pkg+"\n"))
	if at < 0 {
		return out, nil
	}
	in := false
	for s := bufio.NewScanner(bytes.NewReader(b[at:])); s.Scan() && s.Text() != ""; {
		line := s.Text()
		if !strings.HasPrefix(line, " ") {
			in = line == "Conffiles:"
			continue
		}
		if col := strings.Fields(line); in && len(col) >= 2 {
			out[col[0]] = col[1]
		}
	}
	return out, nil
}
