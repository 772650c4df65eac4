// Package dnsmasq makes a node's dnsmasq answer with the names of clusters. The unit is
// the distribution's and the settings besides ours are its owner's: all that is written is
// one file in the folder that it reads anyway, and all that is done is a restart, for
// dnsmasq takes no new settings while it runs.
package dnsmasq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	// askEvery and proveWithin: 2.90 answers 30 ms after systemd says that it runs; one
	// with a large list of blocked names takes seconds.
	askEvery    = 20 * time.Millisecond
	proveWithin = 10 * time.Second
	// testWithin bounds dnsmasq --test.
	testWithin = 10 * time.Second
)

// Options are what a Program needs.
type Options struct {
	// Restart stops and starts a unit.
	Restart func(ctx context.Context, unit string) error
	// Journal is a unit's last words.
	Journal func(ctx context.Context, unit string, lines int) string
	// Binary is /usr/sbin/dnsmasq when empty, and Port 53 when zero. For tests.
	Binary string
	Port   string
}

// Program implements unit.Program. Make one with NewProgram.
type Program struct{ o Options }

var (
	_ unit.Program  = (*Program)(nil)
	_ unit.Outsider = (*Program)(nil)
)

// NewProgram returns a Program.
func NewProgram(o Options) *Program {
	if o.Binary == "" {
		o.Binary = "/usr/sbin/dnsmasq"
	}
	if o.Port == "" {
		o.Port = "53"
	}
	return &Program{o}
}

// Restart reports that a stopped dnsmasq is drift.
func (p *Program) Restart() bool { return true }

// BeforeStart implements unit.Program; there is nothing to do.
func (p *Program) BeforeStart(context.Context, plan.Unit) error { return nil }

// Validate has dnsmasq read our file alone. What its owner's settings forbid beside it
// shows when it is started, and is undone.
func (p *Program) Validate(ctx context.Context, s unit.Staged) error {
	ctx, cancel := context.WithTimeout(ctx, testWithin)
	defer cancel()
	for path, staged := range s.Paths {
		out, err := exec.CommandContext(ctx, p.o.Binary, "--test", "--conf-file="+staged).CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err == nil:
		case errors.As(err, &exit) && ctx.Err() == nil:
			words := strings.ReplaceAll(string(bytes.TrimSpace(out)), staged, path)
			return &plan.Refusal{Reason: observed.Rejected, Message: "dnsmasq --test: " + strings.ReplaceAll(words, "\n", " | ")}
		default:
			return fmt.Errorf("run dnsmasq --test: %w", err)
		}
	}
	return nil
}

// Reload restarts dnsmasq; it is away for some 50 ms.
func (p *Program) Reload(ctx context.Context, u plan.Unit) error {
	err := p.o.Restart(ctx, u.Unit)
	if job, ok := errors.AsType[*systemd.JobError](err); ok && job.Refused() {
		return &plan.Refusal{Reason: observed.Rejected, Message: fmt.Sprintf("%s does not start: %s%v", u.Unit, p.words(ctx, u.Unit), err), Next: "journalctl -n 20 -u " + u.Unit}
	}
	return err // somebody else's job came between, or systemd did not answer: no word of the content
}

// words are dnsmasq's last about its settings.
func (p *Program) words(ctx context.Context, name string) string {
	if p.o.Journal == nil {
		return ""
	}
	last := ""
	for line := range strings.Lines(p.o.Journal(ctx, name, 20)) {
		if strings.Contains(line, "FAILED to start up") || strings.Contains(line, "dnsmasq: ") {
			last = strings.TrimSpace(line) + "; "
		}
	}
	return last
}

// Prove asks the running server which file of ours it has read.
func (p *Program) Prove(ctx context.Context, u plan.Unit) error {
	want := proofIn(u)
	if want == "" {
		return &plan.Refusal{Reason: observed.Rejected, Message: fmt.Sprintf("%s: its file does not say how it is known (txt-record=%s)", u.Unit, plan.DNSProof)}
	}
	ctx, cancel := context.WithTimeout(ctx, proveWithin)
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	var last error
	for {
		err := p.ask(ctx, want)
		if err == nil {
			return nil
		}
		// Cut off in the middle it says nothing, and its own deadline may be over a moment before
		// the context knows.
		if no, ok := errors.AsType[net.Error](err); last == nil || ctx.Err() == nil && !(ok && no.Timeout()) {
			last = err
		}
		select {
		case <-ctx.Done():
			return &plan.Refusal{
				Reason: observed.NotAnswering, Message: fmt.Sprintf("%s does not say that it has read our file: %v", u.Unit, last),
				Next: "grep -rn conf-dir /etc/default/dnsmasq /etc/dnsmasq.conf (it must read /etc/dnsmasq.d)",
			}
		case <-tick.C:
		}
	}
}

// proofIn is what a server with the unit's file answers.
func proofIn(u plan.Unit) string {
	for _, f := range u.Files {
		for line := range strings.Lines(f.Content) {
			if proof, ok := strings.CutPrefix(strings.TrimSpace(line), "txt-record="+plan.DNSProof+","); ok {
				return proof
			}
		}
	}
	return ""
}

// ask asks the addresses of this host, for its owner may have told dnsmasq on which to
// listen; the first that has an answer is enough.
func (p *Program) ask(ctx context.Context, want string) error {
	err := errors.New("this host has no address")
	for _, at := range addresses() {
		r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(at, p.o.Port))
		}}
		one, cancel := context.WithTimeout(ctx, time.Second)
		var got []string
		got, err = r.LookupTXT(one, plan.DNSProof+".")
		cancel()
		var no *net.DNSError
		switch {
		case err == nil && len(got) == 1 && got[0] == want:
			return nil
		case err == nil:
			return fmt.Errorf("at %s it answers %q, not %q", at, got, want)
		case errors.As(err, &no) && no.IsNotFound:
			return fmt.Errorf("at %s it knows no %s", at, plan.DNSProof)
		}
	}
	return err
}

// addresses are where a server of this host may listen, loopback first.
func addresses() []string {
	out := []string{"127.0.0.1"}
	all, _ := net.InterfaceAddrs() // loopback is enough nearly always
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// Outside implements unit.Outsider: dnsmasq watches the folder that it found at its start,
// and never one that was made anew in its place (measured, see package dns).
func (p *Program) Outside(content map[string][]byte) string {
	for _, text := range content {
		for line := range strings.Lines(string(text)) {
			dir, ok := strings.CutPrefix(strings.TrimSpace(line), "hostsdir=")
			if !ok {
				continue
			}
			return folder(dir)
		}
	}
	return ""
}

// folder tells one folder from another that had its name before. Its number does not do:
// ext4 gives a new folder the number of the one that was just removed. Where a file system
// keeps no birth, as NFS, it is zero.
func folder(dir string) string {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_INO|unix.STATX_BTIME, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dir + " is absent"
	case err != nil:
		return dir + ": " + err.Error()
	}
	return fmt.Sprintf("%s is folder %d of device %d:%d, born %d.%09d", dir, st.Ino, st.Dev_major, st.Dev_minor, st.Btime.Sec, st.Btime.Nsec)
}
