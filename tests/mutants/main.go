// Command mutants breaks each rule on purpose and sees its test fail: a test that
// passes on a broken program proves nothing.
//
// Each Rn.patch begins with comment lines that say what it breaks and which test
// must catch it:
//
//	# breaks: what the patch does to the rule
//	# test: ./pkg/plan TestR7OlderEventsChangeNothing
//
// A patch is applied to a copy of the committed tree; tests on real hosts get
// programs built from that copy. A mutant is caught when the named test, and not
// something else, fails.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

type mutant struct {
	name, breaks, pkg, test string
	patch                   string
}

func (m mutant) onHosts() bool { return strings.Contains(m.pkg, "/e2e") }

func main() {
	only := flag.String("run", "", "only mutants whose name matches this expression")
	check := flag.Bool("check", false, "only see that every patch applies and builds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only, *check); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, check bool) error {
	root, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	mutants, err := load(filepath.Join(root, "tests", "mutants"), only)
	if err != nil {
		return err
	}
	survivors, hosts := 0, false
	for _, m := range mutants {
		begin := time.Now()
		verdict, err := try(ctx, root, m, check)
		if err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.name, err)
			verdict = "no answer"
		}
		if !strings.HasPrefix(verdict, "ok") {
			survivors++
		}
		hosts = hosts || m.onHosts()
		fmt.Printf("%-6s %-60s %-10s %4.0f s  %s\n", m.name, m.breaks, verdict, time.Since(begin).Seconds(), m.test)
	}
	if hosts && !check {
		_ = exec.Command("go", "run", "./tests/lab", "down").Run() // a lab full of mutants is of no use to anybody
	}
	if survivors > 0 {
		return fmt.Errorf("%d of %d mutants survived: their tests can't fail", survivors, len(mutants))
	}
	if check {
		fmt.Printf("%d mutants apply and build; none was tried\n", len(mutants))
		return nil
	}
	fmt.Printf("%d mutants, all caught\n", len(mutants))
	return nil
}

var header = regexp.MustCompile(`(?m)^# (breaks|test): (.+)$`)

func load(dir, only string) ([]mutant, error) {
	re, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no patches in %s (%v)", dir, err)
	}
	var out []mutant
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		m := mutant{name: strings.TrimSuffix(filepath.Base(f), ".patch"), patch: f}
		for _, h := range header.FindAllStringSubmatch(string(text), -1) {
			if h[1] == "breaks" {
				m.breaks = h[2]
			} else {
				m.pkg, m.test, _ = strings.Cut(h[2], " ")
			}
		}
		if m.breaks == "" || m.test == "" {
			return nil, fmt.Errorf("%s: wants the lines \"# breaks: ...\" and \"# test: <package> <Test>\"", f)
		}
		if re.MatchString(m.name) {
			out = append(out, m)
		}
	}
	return out, nil
}

// try returns "ok ..." when the mutant was caught.
func try(ctx context.Context, root string, m mutant, check bool) (string, error) {
	dir, err := os.MkdirTemp("", "mutant-"+m.name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if _, err := output(ctx, root, "git", "worktree", "add", "--detach", "--force", dir, "HEAD"); err != nil {
		return "", err
	}
	defer func() { _, _ = output(context.WithoutCancel(ctx), root, "git", "worktree", "remove", "--force", dir) }()
	if _, err := output(ctx, dir, "git", "apply", m.patch); err != nil {
		return "", err
	}
	if _, err := output(ctx, dir, "go", "build", "./..."); err != nil {
		return "", err
	}
	if check {
		return "ok applies", nil
	}
	args := []string{"test", "-count=1", "-timeout", "10m", "-run", "^" + m.test + "$", "-v", m.pkg}
	if m.onHosts() {
		if _, err := output(ctx, dir, "make", "build"); err != nil {
			return "", err
		}
		args = append(args, "-keep")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return "SURVIVED", nil
	case bytes.Contains(out, []byte("--- FAIL: "+m.test)):
		return "ok caught", nil
	}
	return "", fmt.Errorf("the test did not run to its end: %w\n%s", err, tail(out))
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, tail(out))
	}
	return strings.TrimSpace(string(out)), nil
}

func tail(b []byte) []byte {
	const keep = 3000
	return b[max(0, len(b)-keep):]
}
