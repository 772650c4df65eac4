package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cut is one direction of frames that the switch drops; "*" stands for everybody, the machine too.
type cut struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// ruleset is the switch's whole packet filter. It is replaced in one transaction, so a cut of many pairs begins at one instant.
func ruleset(cuts []cut) string {
	var b strings.Builder
	b.WriteString("table bridge lab\ndelete table bridge lab\ntable bridge lab {\n\tchain forward {\n\t\ttype filter hook forward priority 0; policy accept;\n")
	for _, c := range cuts {
		b.WriteString("\t\t")
		if c.From != "*" {
			fmt.Fprintf(&b, "iifname %q ", portOf(c.From))
		}
		if c.To != "*" {
			fmt.Fprintf(&b, "oifname %q ", portOf(c.To))
		}
		b.WriteString("drop\n")
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// pairs are the directions between a host and others: all of them when none is named.
func pairs(host string, others []*Host, back bool) (cuts []cut) {
	names := []string{"*"}
	if len(others) > 0 {
		names = nil
		for _, o := range others {
			names = append(names, o.Name)
		}
	}
	for _, name := range names {
		cuts = append(cuts, cut{From: host, To: name})
		if back {
			cuts = append(cuts, cut{From: name, To: host})
		}
	}
	return cuts
}

// Cut drops every frame, ARP too, between this host and the others, both ways, from one instant on; open connections hang as on a broken
// switch, links stay up. With no argument it cuts the host from everybody, the machine included; [Lab.Machine] names the machine.
// Cuts add up, and they outlast reboots of hosts. Cutting what is cut is no error. Exec still works: it does not use the network.
func (h *Host) Cut(ctx context.Context, others ...*Host) error {
	return h.addCuts(ctx, pairs(h.Name, others, true))
}

// CutOneWay drops only what this host sends to the others; what they send still arrives.
func (h *Host) CutOneWay(ctx context.Context, others ...*Host) error {
	return h.addCuts(ctx, pairs(h.Name, others, false))
}

func (h *Host) addCuts(ctx context.Context, add []cut) error {
	return h.lab.changeCuts(ctx, h.Name, func(have []cut) []cut {
		for _, c := range add {
			if !slices.Contains(have, c) {
				have = append(have, c)
			}
		}
		return have
	})
}

// Heal ends cuts between this host and the others; with no argument every cut this host is part of. A cut from everybody ends only with no
// argument. Healing what is whole is no error.
func (h *Host) Heal(ctx context.Context, others ...*Host) error {
	return h.lab.changeCuts(ctx, h.Name, func(have []cut) []cut { return healed(have, h.Name, others) })
}

func healed(have []cut, host string, others []*Host) []cut {
	drop := pairs(host, others, true)
	return slices.DeleteFunc(have, func(c cut) bool {
		if len(others) == 0 {
			return c.From == host || c.To == host
		}
		return slices.Contains(drop, c)
	})
}

// Heal ends all cuts of the lab.
func (l *Lab) Heal(ctx context.Context) error {
	return l.changeCuts(ctx, "all hosts", func([]cut) []cut { return nil })
}

func (l *Lab) changeCuts(ctx context.Context, who string, change func([]cut) []cut) error {
	err := updateState(l.name, func(s *state) { s.Cuts = change(s.Cuts) }, func(s state) error { return filter(ctx, l.name, s.Cuts) })
	if err != nil {
		return fmt.Errorf("change cuts of %s: %w", who, err)
	}
	return nil
}

// filter puts the cuts in force.
func filter(ctx context.Context, lab string, cuts []cut) error {
	_, err := run(ctx, ruleset(cuts), "nsenter", "--net=/run/netns/"+switchNamespace(lab), tool("nft"), "-f", "-")
	if err != nil {
		return fmt.Errorf("load packet filter of the switch: %w", err)
	}
	return nil
}

// Kill sends a signal ("SIGKILL", "STOP", "9") to all processes of a unit, when target is a unit's full name (it ends in ".service" or
// ".scope"), else to every process whose command line matches target, a regular expression as of pkill -f. That none matches is an error.
// Mind that patroni@X.service holds its PostgreSQL too; use [Host.KillMain] or a pattern for Patroni alone.
func (h *Host) Kill(ctx context.Context, target, signal string) error {
	var err error
	if isUnit(target) {
		_, err = h.Exec(ctx, "systemctl", "kill", "--kill-whom=all", "--signal="+signal, target)
	} else {
		_, err = h.Exec(ctx, "pkill", "--signal", signal, "-f", "--", target)
	}
	if err != nil {
		return fmt.Errorf("kill %s: %w", target, err)
	}
	return nil
}

// KillMain sends a signal to the main process of a unit only.
func (h *Host) KillMain(ctx context.Context, unit, signal string) error {
	_, err := h.Exec(ctx, "systemctl", "kill", "--kill-whom=main", "--signal="+signal, unit)
	return err
}

// Pause stops (SIGSTOP) all processes of a unit; sockets stay open and leases run out, as with a hung program.
func (h *Host) Pause(ctx context.Context, unit string) error {
	return h.Kill(ctx, service(unit), "SIGSTOP")
}

// Resume continues what Pause stopped.
func (h *Host) Resume(ctx context.Context, unit string) error {
	return h.Kill(ctx, service(unit), "SIGCONT")
}

func isUnit(name string) bool {
	return strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope")
}

// service completes a unit's name as systemctl does.
func service(unit string) string {
	if isUnit(unit) {
		return unit
	}
	return unit + ".service"
}

// Freeze stops every process of the host at once, as a paused virtual machine; the kernel still answers ping and holds its addresses.
// Exec hangs while it lasts. Thaw, PowerOff and Down end it.
func (h *Host) Freeze(ctx context.Context) error { return h.freeze("1") }

// Thaw continues what Freeze stopped.
func (h *Host) Thaw(ctx context.Context) error { return h.freeze("0") }

func (h *Host) freeze(value string) error {
	dirs, err := cgroups(h.lab.name, h.Name)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dirs[0], "payload", "cgroup.freeze"), []byte(value), 0o644); err != nil {
		return fmt.Errorf("freeze host %s: %w", h.Name, err)
	}
	return nil
}

func (h *Host) frozen() bool {
	dirs, err := cgroups(h.lab.name, h.Name)
	if err != nil {
		return false
	}
	content, _ := os.ReadFile(filepath.Join(dirs[0], "payload", "cgroup.freeze")) // off: not frozen
	return strings.TrimSpace(string(content)) == "1"
}
