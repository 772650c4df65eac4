package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// client is for one question at a time to a program that may be about to be restarted: no
// connection is kept, and no proxy is asked the way to this host.
func client() *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

// maxAnswer bounds what is read: an exporter's metrics are a few hundred kilobytes.
const maxAnswer = 8 << 20

func (p *Program) url(u plan.Unit) (string, error) {
	port, err := p.spec.Port(u)
	if err != nil {
		return "", &plan.Refusal{Reason: observed.Rejected, Message: err.Error()}
	}
	return "http://" + net.JoinHostPort("localhost", strconv.Itoa(port)), nil
}

func (p *Program) getter(u plan.Unit) (Get, error) {
	base, err := p.url(u)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, path string) ([]byte, error) {
		status, body, err := p.do(ctx, http.MethodGet, base+path)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("GET %s: it answers %d", path, status)
		}
		return body, err
	}, nil
}

// post has the program read its files again. Its no has its words.
func (p *Program) post(ctx context.Context, u plan.Unit) error {
	base, err := p.url(u)
	if err != nil {
		return err
	}
	status, body, err := p.do(ctx, http.MethodPost, base+p.spec.ReloadPath)
	switch {
	case err != nil:
		return notAnswering(u.Unit, err)
	case status/100 != 2:
		return &plan.Refusal{
			Reason: observed.Rejected, Next: "journalctl -n 30 -u " + u.Unit,
			Message: fmt.Sprintf("%s: POST %s: %d: %s", u.Unit, p.spec.ReloadPath, status, strings.TrimSpace(string(body))),
		}
	}
	return nil
}

func (p *Program) do(ctx context.Context, method, url string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, nil, err
	}
	res, err := p.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, body, err
}

// checkTimeout is ten times what promtool takes for a thousand rules on a small machine.
const checkTimeout = 20 * time.Second

// check runs a checker on a staged file.
func (p *Program) check(ctx context.Context, command []string, staged, final string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], staged)...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return p.missing(command[0])
	case ctx.Err() != nil || !errors.As(err, &exit) || !exit.Exited():
		return fmt.Errorf("validate %s: run %s: %w", final, command[0], err)
	}
	return &plan.Refusal{Reason: observed.Rejected, Message: command[0] + ": " + words(string(out), staged, final)}
}

// missing is the refusal of a program that is not installed.
func (p *Program) missing(what string) error {
	r := &plan.Refusal{Reason: observed.MissingProgram, Message: what + " is not installed on this node"}
	if p.spec.Package != "" {
		r.Next = "apt-get install -y --no-install-recommends " + p.spec.Package
	}
	return r
}

// words are a checker's, on one line, about the file's own place.
func words(out, staged, final string) string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(out, staged, final)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Checking ") && line != "FAILED:" {
			lines = append(lines, strings.TrimPrefix(line, "FAILED: "))
		}
	}
	return strings.Join(lines, "; ")
}

func (p *Program) refusedFiles(name string) error {
	msg := p.name + " did not take its files and goes on with what it had"
	if p.o.Journal != nil {
		lines := strings.Split(strings.TrimSpace(p.o.Journal(context.Background(), name, 5)), "\n")
		msg += ": " + strings.Join(lines, " | ")
	}
	return &plan.Refusal{Reason: observed.Rejected, Message: msg, Next: "journalctl -n 30 -u " + name}
}

func notAnswering(name string, err error) error {
	return &plan.Refusal{
		Reason: observed.NotAnswering, Message: fmt.Sprintf("%s does not answer: %v", name, err), Next: "systemctl status " + name,
	}
}
