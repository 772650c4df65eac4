package haproxy

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// proc is what `show proc` says of the processes.
type proc struct {
	Master int
	// Reloads counts since the master started, failed ones too. Failed counts the
	// failed ones since the last that worked.
	Reloads, Failed int
	// Worker is the newest worker, 0 when there is none.
	Worker int
	Old    []int
}

var masterReloads = regexp.MustCompile(`^(\d+)(?:\s+\[failed: (\d+)\])?`)

// parseProc reads `show proc` of 2.6 to 3.0: columns under a header, sections
// after lines that begin with "# ".
func parseProc(text string) (proc, error) {
	var p proc
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "# "); ok {
			section = name
			continue
		}
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(line, "#") {
			continue
		}
		pid, err := strconv.Atoi(f[0])
		if err != nil {
			return p, fmt.Errorf("parse show proc: %q is not a process id", f[0])
		}
		switch {
		case f[1] == "master":
			p.Master = pid
			if m := masterReloads.FindStringSubmatch(strings.Join(f[2:], " ")); m != nil {
				p.Reloads, _ = strconv.Atoi(m[1])
				p.Failed, _ = strconv.Atoi(m[2])
			}
		case f[1] != "worker":
		case section == "old workers":
			p.Old = append(p.Old, pid)
		default:
			p.Worker = pid
		}
	}
	if p.Master == 0 {
		return p, fmt.Errorf("parse show proc: no master in %q", text)
	}
	return p, nil
}

func showProc(ctx context.Context, socket string) (proc, error) {
	text, err := askMaster(ctx, socket, "show proc")
	if err != nil {
		return proc{}, err
	}
	return parseProc(text)
}

// pids lists all of HAProxy's processes.
func (p proc) pids() []int {
	out := append([]int{p.Master}, p.Old...)
	if p.Worker != 0 {
		out = append(out, p.Worker)
	}
	return out
}

// session is one line of `show sess`.
type session struct {
	ID, Backend, Server string
}

// parseSessions reads `show sess`. Sessions of the command line itself, and those
// that have no server yet, have no server here.
func parseSessions(text string) []session {
	var out []session
	for line := range strings.Lines(text) {
		id, rest, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || !strings.HasPrefix(id, "0x") {
			continue
		}
		s := session{ID: id}
		for _, f := range strings.Fields(rest) {
			switch name, value, _ := strings.Cut(f, "="); name {
			case "be":
				s.Backend = value
			case "srv":
				s.Server = value
			}
		}
		if strings.HasPrefix(s.Server, "<") {
			s.Server = ""
		}
		out = append(out, s)
	}
	return out
}
