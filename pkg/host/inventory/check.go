package inventory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// CheckResult is one line of `pgagent check`.
type CheckResult struct {
	Name string
	// OK is false for what stands in the way; Optional says that only some concerns
	// need it.
	OK, Optional bool
	Detail       string
	// Next is the command that helps, if there is one.
	Next string
}

// required are the programs without which a member can't be.
var required = []string{"patroni", "haproxy", "pgbouncer"}

// Check looks at everything that must be right before a cluster can be made here.
// Ports are those the node will need.
func (h *Host) Check(ctx context.Context, ports ...int) []CheckResult {
	out := []CheckResult{h.checkMachine(), h.checkSystemd(ctx), checkClock()}
	out = append(out, h.checkPrograms(ctx)...)
	for _, p := range ports {
		out = append(out, h.checkPort(p))
	}
	return out
}

func (h *Host) checkMachine() CheckResult {
	id, err := h.MachineID()
	if err != nil {
		return CheckResult{Name: "machine id", Detail: err.Error(), Next: "systemd-machine-id-setup"}
	}
	return CheckResult{Name: "machine id", OK: true, Detail: id}
}

func (h *Host) checkSystemd(ctx context.Context) CheckResult {
	if _, err := h.Systemd.Status(ctx, "multi-user.target"); err != nil {
		return CheckResult{Name: "systemd", Detail: err.Error()}
	}
	return CheckResult{Name: "systemd", OK: true, Detail: "answers"}
}

// checkClock asks the kernel whether something keeps its clock right. Nothing here
// relies on it, but Patroni's logs and backups do.
func checkClock() CheckResult {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	r := CheckResult{Name: "clock", Optional: true, Next: "timedatectl set-ntp true"}
	switch {
	case err != nil:
		r.Detail = "the kernel does not say whether it is synchronised: " + err.Error()
	case state == unix.TIME_ERROR:
		r.Detail = "nothing keeps it synchronised"
	default:
		r.OK, r.Detail, r.Next = true, "synchronised", ""
	}
	return r
}

func (h *Host) checkPrograms(ctx context.Context) []CheckResult {
	versions, majors, err := h.Programs(ctx)
	if err != nil {
		return []CheckResult{{Name: "programs", Detail: err.Error()}}
	}
	postgres := CheckResult{Name: "postgresql", Detail: "not installed", Next: "apt-get install -y postgresql"}
	if len(majors) > 0 {
		var words []string
		for _, name := range slices.Sorted(maps.Keys(versions)) {
			if strings.HasPrefix(name, "postgresql-") {
				words = append(words, versions[name])
			}
		}
		postgres = CheckResult{Name: "postgresql", OK: true, Detail: strings.Join(words, ", ")}
	}
	out := []CheckResult{postgres}
	for _, p := range programs {
		r := CheckResult{Name: p.name, Optional: !slices.Contains(required, p.name), Detail: "not installed"}
		if v, ok := versions[p.name]; ok {
			r.OK, r.Detail = true, v
		} else {
			r.Next, _ = h.Missing(p.name)
		}
		out = append(out, r)
	}
	return out
}

func (h *Host) checkPort(port int) CheckResult {
	r := CheckResult{Name: fmt.Sprintf("port %d", port), OK: true, Detail: "free"}
	held, err := h.Listening(port)
	if err != nil {
		return CheckResult{Name: r.Name, Detail: err.Error()}
	}
	for _, l := range held {
		switch {
		case isOurs(l.Unit):
			r.Detail = "ours: " + l.String()
		case strings.HasPrefix(l.Unit, "postgresql@") || l.Unit == "haproxy.service" || l.Unit == "pgbouncer.service":
			r.OK, r.Optional = false, true
			r.Detail = "held by " + l.String() + ", which is stopped when a cluster needs the port, if nobody uses it"
		default:
			return CheckResult{Name: r.Name, Detail: "held by " + l.String()}
		}
	}
	return r
}
