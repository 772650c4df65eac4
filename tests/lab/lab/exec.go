package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// enter is how a command gets into the host: all namespaces of its process 1. The command belongs to no unit of the host (use systemd-run
// for daemons) and dies with the host.
func (h *Host) enter(argv []string) (program string, args, env []string, err error) {
	pid, err := leader(h.lab.name, h.Name)
	if err != nil {
		return "", nil, nil, err
	}
	if pid == 0 {
		return "", nil, nil, fmt.Errorf("enter host %s: %w", h.Name, ErrOff)
	}
	env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=" + os.Getenv("TERM")}
	return tool("nsenter"), append([]string{"-t", strconv.Itoa(pid), "-a", "--"}, argv...), env, nil
}

// Command is a command on the host, as root, with a clean environment, to be started with its own standard streams. When the context ends
// it is killed with its children. On a host that is off, starting it fails with ErrOff.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	program, args, env, err := h.enter(argv)
	cmd := exec.CommandContext(ctx, program, args...)
	if err != nil {
		cmd.Err = err
		return cmd
	}
	cmd.Env = env
	// nsenter waits for a child in the host's namespace and would leave it behind; the group is both.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Interactive is Command for a person: it stays in the terminal's process group, so that keys reach
// it, and it is the person who ends it, not the context.
func (h *Host) Interactive(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := h.Command(ctx, argv...)
	cmd.SysProcAttr, cmd.Cancel, cmd.WaitDelay = nil, nil, 0
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// Exec runs a command on the host as root and returns its standard output. An error names host and command, carries standard error, and
// wraps *exec.ExitError or ErrOff. There is no shell: use "sh", "-c", "..." for one.
func (h *Host) Exec(ctx context.Context, argv ...string) (string, error) {
	stdout, err := output(h.Command(ctx, argv...))
	if err != nil {
		return stdout, fmt.Errorf("run %q on %s: %w", strings.Join(argv, " "), h.Name, err)
	}
	return stdout, nil
}

// WriteFile replaces a file on the running host atomically, and makes its folder (0755) if missing; owner root.
func (h *Host) WriteFile(ctx context.Context, path string, mode fs.FileMode, content []byte) error {
	return h.write(ctx, path, mode, bytes.NewReader(content))
}

// CopyFile copies a file of the machine onto the host, as WriteFile does; a program that runs from remote keeps its old file.
func (h *Host) CopyFile(ctx context.Context, local, remote string, mode fs.FileMode) error {
	file, err := os.Open(local)
	if err != nil {
		return fmt.Errorf("copy to %s: %w", h.Name, err)
	}
	defer file.Close()
	return h.write(ctx, remote, mode, file)
}

func (h *Host) write(ctx context.Context, path string, mode fs.FileMode, content io.Reader) error {
	const script = `set -e; mkdir -p "$(dirname "$1")"; t=$(mktemp "$1.XXXXXX"); trap 'rm -f "$t"' EXIT; cat >"$t"; chmod "$2" "$t"; mv -fT "$t" "$1"`
	cmd := h.Command(ctx, "sh", "-c", script, "sh", path, fmt.Sprintf("%04o", mode.Perm()))
	cmd.Stdin = content
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("write %s on %s: %w", path, h.Name, err)
	}
	return nil
}

// ReadFile is a file's content on the running host. fs.ErrNotExist when there is none.
func (h *Host) ReadFile(ctx context.Context, path string) ([]byte, error) {
	content, err := output(h.Command(ctx, "sh", "-c", `[ -e "$1" ] || exit 66; exec cat -- "$1"`, "sh", path))
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 66 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("read %s on %s: %w", path, h.Name, err)
	}
	return []byte(content), nil
}
