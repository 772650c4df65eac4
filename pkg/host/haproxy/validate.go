package haproxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Validate asks HAProxy itself about the staged file, and then what `haproxy
// -c` does not look at: whether every port is free or held by this unit already,
// and used once. -c accepts a taken port; the reload then fails, and two units on
// one port share it, splitting clients between clusters (measured).
func (p *Program) Validate(ctx context.Context, s unit.Staged) error {
	binary, err := p.binary()
	if err != nil {
		return err
	}
	for _, f := range s.Unit.Files {
		at, ok := s.Paths[f.Path]
		if !ok || !strings.HasSuffix(f.Path, ".cfg") {
			continue
		}
		if err := check(ctx, binary, at, f.Path); err != nil {
			return err
		}
		content, err := os.ReadFile(at)
		if err != nil {
			return fmt.Errorf("validate %s: %w", f.Path, err)
		}
		if err := p.checkPorts(ctx, s.Unit.Unit, f.Path, string(content)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Program) binary() (string, error) {
	name := p.r.o.Binary
	if name == "" {
		name = "haproxy"
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path := filepath.Join("/usr/sbin", name); !filepath.IsAbs(name) && executable(path) {
		return path, nil
	}
	return "", &plan.Refusal{
		Reason: observed.MissingProgram, Message: "haproxy is not installed on this node",
		Next: "apt-get install -y --no-install-recommends haproxy",
	}
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&0o111 != 0
}

var logPrefix = regexp.MustCompile(`^\[(ALERT|WARNING|NOTICE)\]\s+(\(\d+\)\s+)?: (config : )?`)

// check runs haproxy -c. Its alerts are the answer to a person; what it says about
// the state file and its own version is not.
func check(ctx context.Context, binary, staged, final string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "-W", "-c", "-f", staged).CombinedOutput()
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if ctx.Err() != nil || !errors.As(err, &exit) {
		return fmt.Errorf("validate %s: run haproxy -c: %w", final, err)
	}
	var words []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[ALERT]") {
			words = append(words, logPrefix.ReplaceAllString(line, ""))
		}
	}
	if len(words) == 0 {
		words = []string{strings.TrimSpace(string(out))}
	}
	return &plan.Refusal{
		Reason:  observed.Rejected,
		Message: "haproxy -c: " + strings.ReplaceAll(strings.Join(words, "; "), staged, final),
	}
}

func (p *Program) checkPorts(ctx context.Context, name, path, cfg string) error {
	binds, err := parseBinds(cfg)
	if err != nil {
		return &plan.Refusal{Reason: observed.Rejected, Message: path + ": " + err.Error()}
	}
	for i, b := range binds {
		for _, o := range binds[:i] {
			if (listener{Host: o.Host, Port: o.Port}).clashes(b) {
				return &plan.Refusal{Reason: observed.Rejected,
					Message: fmt.Sprintf("%s: line %d binds %s, which line %d binds already", path, b.Line, b, o.Line)}
			}
		}
	}
	taken, err := listeners()
	if err != nil {
		return err
	}
	var ours map[string]bool
	if pr, err := showProc(ctx, p.r.master(name)); err == nil {
		ours = sockets(pr.pids()...)
	}
	for _, b := range binds {
		for _, l := range taken {
			if !l.clashes(b) || ours[l.Inode] {
				continue
			}
			who := holder(l.Inode)
			if who == "" {
				who = "another program"
			}
			return &plan.Refusal{Reason: observed.PortInUse,
				Message: fmt.Sprintf("%s: line %d binds %s, which %s listens on", path, b.Line, b, who),
				Next:    fmt.Sprintf("ss -ltnp 'sport = :%d'", b.Port)}
		}
	}
	return p.r.claims.take(name, path, binds, time.Now())
}
