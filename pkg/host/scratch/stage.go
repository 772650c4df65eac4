package scratch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/pgbackrest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// stage is one of the programs in the units.
type stage struct {
	job
	log  io.Writer // what people read in the journal
	told time.Time // when it was last said how far it is
}

// sayEvery is how often it is written how far a stage is.
const sayEvery = time.Second

// killAfter is how long a program may take to end when told to.
const killAfter = 8 * time.Second

// cleanEnvironment has nothing of whoever started it: every PGBACKREST_ and PG variable is an
// option.
var cleanEnvironment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TZ=UTC"}

// Fetch is the first stage, run in its unit with the order as text.
func Fetch(ctx context.Context, order string, log io.Writer) error {
	return run(ctx, order, log, (*stage).fetch)
}

// Recover is the second stage, run in its unit with the order as text.
func Recover(ctx context.Context, order string, log io.Writer) error {
	return run(ctx, order, log, (*stage).recover)
}

// run does a stage, and leaves its error where the agent reads it.
func run(ctx context.Context, order string, log io.Writer, do func(*stage, context.Context) error) error {
	s := &stage{log: log}
	if err := json.Unmarshal([]byte(order), &s.job); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	if err := s.check(s.Cluster); err != nil {
		return err
	}
	var o Order
	if !s.read(orderFile, &o) || o.Step != s.Step {
		return fmt.Errorf("%s is not a folder of step %s", s.Dir, s.Step)
	}
	err := do(s, ctx)
	if err == nil || ctx.Err() != nil { // whoever stopped it knows why
		return err
	}
	r, is := errors.AsType[*plan.Refusal](err)
	if !is {
		r = &plan.Refusal{Reason: observed.RecoveryFailed, Message: err.Error()}
	}
	return errors.Join(err, writeWhole(s.file(failedFile), r))
}

// say writes how far it is, when that is news and the last time is a while ago.
func (s *stage) say(p *observed.Progress, message string) {
	if now := time.Now(); now.Sub(s.told) >= sayEvery || p == nil {
		s.told = now
		if err := writeWhole(s.file(atFile), progress{p, message}); err != nil {
			fmt.Fprintln(s.log, err) // it goes on all the same
		}
	}
}

// command is a program in this stage, which ends when the stage does.
func (s *stage) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = cleanEnvironment, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	return cmd
}

// output runs a short program and returns what it printed.
func (s *stage) output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := s.command(ctx, name, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(said.Bytes()))
	}
	return out.Bytes(), nil
}

// backrest runs pgBackRest. line gets what it says, if it is there; what it prints is returned.
func (s *stage) backrest(ctx context.Context, what string, line func(string), args ...string) ([]byte, error) {
	console := "off"
	if line != nil {
		console = "detail"
	}
	args = append([]string{
		"--config=" + s.Config, "--stanza=" + s.Cluster, "--log-level-console=" + console, "--log-level-file=off", "--log-level-stderr=error",
	}, args...)
	cmd := s.command(ctx, s.Pgbackrest, args...)
	var out, said bytes.Buffer
	cmd.Stderr = io.MultiWriter(&said, s.log)
	if line == nil {
		cmd.Stdout = &out
	} else {
		lines, err := cmd.StdoutPipe()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		for in := bufio.NewScanner(lines); in.Scan(); {
			line(in.Text())
		}
	}
	err := cmd.Wait
	if line == nil {
		err = cmd.Run
	}
	switch err := err(); {
	case err == nil:
		return out.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	default:
		if exit, is := errors.AsType[*exec.ExitError](err); is {
			return nil, s.refused(pgbackrest.Failed(what, s.Cluster, s.Node, exit.ExitCode(), said.String()))
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil, &plan.Refusal{Reason: observed.MissingProgram, Message: what + ": pgBackRest is not installed", Next: "apt-get install pgbackrest (on " + s.Node + ")"}
		}
		return nil, fmt.Errorf("%s: %w", what, err)
	}
}

// controldata reads the control file.
func (s *stage) controldata(ctx context.Context) (control, error) {
	out, err := s.output(ctx, s.program("pg_controldata"), "-D", s.data())
	return parseControl(out), err
}

// refused is what pgBackRest's no means here: what it has no other word for is a file that is
// damaged or gone, which it would say again.
func (s *stage) refused(r *plan.Refusal) *plan.Refusal {
	if r.Reason == observed.BackupFailed {
		r.Reason, r.Next = observed.RecoveryFailed, fmt.Sprintf("journalctl -n 60 -u %s (on %s)", plan.ScratchFetchUnit(s.Cluster), s.Node)
	}
	return r
}
