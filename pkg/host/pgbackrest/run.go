package pgbackrest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// binary is pgBackRest.
const binary = "/usr/bin/pgbackrest"

// killAfter is how long pgBackRest may take to end when told to; it ends its helpers first.
const killAfter = 5 * time.Second

// cleanEnvironment has nothing of the agent's: every PGBACKREST_ variable is an option.
var cleanEnvironment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "TZ=UTC"}

// run runs a short command of pgBackRest as PostgreSQL's user and returns what it printed.
// ctx bounds it; what it had to say when that was over is a repository that does not answer.
func (d *Driver) run(ctx context.Context, what, cluster string, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := d.runInto(ctx, &out, what, cluster, args...)
	return out.Bytes(), err
}

// runInto hands what it prints on as it comes, for what may be long.
func (d *Driver) runInto(ctx context.Context, out io.Writer, what, cluster string, args ...string) error {
	as, err := files.Credential(d.o.User)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	args = append([]string{
		"--config=" + plan.BackupConfig(cluster), "--stanza=" + cluster,
		"--log-level-console=off", "--log-level-file=off", "--log-level-stderr=error",
	}, args...)
	cmd := exec.CommandContext(ctx, d.o.Binary, args...)
	cmd.Env, cmd.Dir = cleanEnvironment, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &said
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		r := failed(what, cluster, d.o.Node, codeHostConnect, said.String())
		r.Message = fmt.Sprintf("%s: no answer in time; the backup repository can't be reached", what)
		return r
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case errors.As(err, &exit):
		return failed(what, cluster, d.o.Node, exit.ExitCode(), said.String())
	case errors.Is(err, os.ErrNotExist):
		return &plan.Refusal{Reason: observed.MissingProgram, Message: what + ": pgBackRest is not installed", Next: "apt-get install pgbackrest (on " + d.o.Node + ")"}
	}
	return fmt.Errorf("%s: %w", what, err)
}
