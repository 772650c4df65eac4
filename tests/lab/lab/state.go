package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse says that another process holds the lab's lock: it called Up and neither brought the lab down nor ended.
var ErrInUse = errors.New("lab is in use by another process")

// state is what can't be read back from the system. Processes, namespaces and mounts are never in it: they are looked at.
type state struct {
	Name   string      `json:"name"`
	Subnet string      `json:"subnet"`
	Image  string      `json:"image"` // folder of the base image
	Hosts  []hostState `json:"hosts"`
	Cuts   []cut       `json:"cuts,omitempty"`
}

type hostState struct {
	Name string `json:"name"`
	IP   string `json:"ip"`
}

func labDir(name string) string { return filepath.Join(CacheDir(), "labs", name) }

func statePath(name string) string { return filepath.Join(labDir(name), "state.json") }

func readState(path string) (state, error) {
	var s state
	content, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return s, fmt.Errorf("parse %s: %w", path, err)
	}
	return s, nil
}

// updateState changes the state file under a short lock of its own, so that `lab cut` in a shell and a test that holds the lab agree.
// apply runs under the same lock, after the change and before it is written, so that what is in force and what is written are one.
func updateState(name string, change func(*state), apply func(state) error) error {
	lock, err := os.OpenFile(labDir(name)+".state.lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("lock state of lab %s: %w", name, err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock state of lab %s: %w", name, err)
	}
	s, err := readState(statePath(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read state of lab %s: %w", name, err)
	}
	change(&s)
	if apply != nil {
		if err := apply(s); err != nil {
			return err
		}
	}
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state of lab %s: %w", name, err)
	}
	temporary := statePath(name) + ".new"
	if err := os.WriteFile(temporary, append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("write state of lab %s: %w", name, err)
	}
	return os.Rename(temporary, statePath(name))
}

// acquire takes the lock file and writes who holds it; it waits, and says for whom, until the context ends (ErrInUse). A nil log does not
// wait. The kernel frees the lock when the process ends, however it ends; machines don't inherit it (close on exec).
func acquire(ctx context.Context, path string, log *Log) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	said := false
	err = poll(ctx, 100*time.Millisecond, func() (bool, error) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err == nil, err
		}
		holder, _ := os.ReadFile(path) // a message only
		inUse := fmt.Errorf("%w: %s", ErrInUse, strings.TrimSpace(string(holder)))
		if log == nil {
			return false, inUse
		}
		if !said {
			log.Say("waiting: %v", inUse)
			said = true
		}
		return false, nil
	})
	if err != nil {
		file.Close()
		return nil, err
	}
	content := fmt.Sprintf("pid %d: %s\n", os.Getpid(), strings.Join(slices.Clone(os.Args), " "))
	if err = os.Truncate(path, 0); err == nil {
		_, err = file.WriteAt([]byte(content), 0)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
