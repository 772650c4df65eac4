package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Log prints progress lines with the seconds since it was made. It may be used from many goroutines.
type Log struct {
	mu      sync.Mutex
	w       io.Writer
	started time.Time
}

// NewLog writes to w; nil discards.
func NewLog(w io.Writer) *Log {
	if w == nil {
		w = io.Discard
	}
	return &Log{w: w, started: time.Now()}
}

// Say prints one line.
func (l *Log) Say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, "%5.1f s  %s\n", time.Since(l.started).Seconds(), fmt.Sprintf(format, args...))
}

// tool finds a program also where a user's PATH lacks the system folders, as with plain su.
func tool(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin"} {
		if path := filepath.Join(dir, name); isFile(path) {
			return path
		}
	}
	return name
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// run starts a program of the machine, with input if any, and puts what it says on standard error into the error.
func run(ctx context.Context, input, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool(name), args...)
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	return output(cmd)
}

func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if said := strings.TrimSpace(stderr.String()); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return stdout.String(), err
}

// poll asks until done says so or the context ends; cause then tells what it last waited for.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// tail is the last lines of a text file, for error messages; an unreadable file is said so in its place.
func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// machineTools are the programs the lab runs on the machine and the Debian packages they come in.
var machineTools = []struct{ program, pkg string }{
	{"systemd-nspawn", "systemd-container"}, {"mmdebstrap", "mmdebstrap"}, {"ip", "iproute2"}, {"nft", "nftables"}, {"nsenter", "util-linux"},
}

// installTools installs what is missing on the machine, after one apt-get update, and says so.
func installTools(ctx context.Context, log *Log) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the lab needs root: it makes network namespaces and mounts")
	}
	var missing []string
	for _, t := range machineTools {
		if !isFile(tool(t.program)) {
			missing = append(missing, t.pkg)
		}
	}
	if !isFile(keyring) {
		missing = append(missing, "debian-archive-keyring")
	}
	return aptInstall(ctx, missing, log)
}

// Install installs those Debian packages that the machine lacks.
func Install(ctx context.Context, log *Log, packages ...string) error {
	var missing []string
	for _, p := range packages {
		status, _ := run(ctx, "", "dpkg-query", "-W", "-f", "${Status}", p) // an unknown package is an error, and missing
		if status != "install ok installed" {
			missing = append(missing, p)
		}
	}
	return aptInstall(ctx, missing, log)
}

func aptInstall(ctx context.Context, missing []string, log *Log) error {
	if len(missing) == 0 {
		return nil
	}
	log.Say("installing on this machine: %s", strings.Join(missing, " "))
	// Two programs that install at one time, as the builds of the second stage do beside the
	// tests, wait for one another.
	const patiently = "DPkg::Lock::Timeout=300"
	if _, err := run(ctx, "", "apt-get", "update", "-qq", "-o", patiently); err != nil {
		return fmt.Errorf("apt-get update: %w", err)
	}
	install := append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "-o", patiently, "--no-install-recommends"}, missing...)
	if _, err := run(ctx, "", "env", install...); err != nil {
		return fmt.Errorf("apt-get install %s: %w", strings.Join(missing, " "), err)
	}
	return nil
}
