package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

func dataDir(t *testing.T) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "pg-test")
	write(t, data, "PG_VERSION", "15\n")
	return data
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSetAside(t *testing.T) {
	data := dataDir(t)
	for _, want := range []string{"", ""} { // a second time says the same
		where, err := SetAside(data, "0123456789abcdef")
		if err != nil || where != data+".removed-01234567"+want {
			t.Fatalf("%q, %v", where, err)
		}
	}
	if b, err := os.ReadFile(data + ".removed-01234567/PG_VERSION"); err != nil || string(b) != "15\n" {
		t.Errorf("the data are not there: %q, %v", b, err)
	}
	write(t, data, "PG_VERSION", "15\n") // the member came back, and goes again
	if where, err := SetAside(data, "0123456789abcdef"); err != nil || where != data+".removed-01234567-2" {
		t.Errorf("%q, %v", where, err)
	}
	if where, err := SetAside(filepath.Join(t.TempDir(), "none"), "u"); err != nil || where != "" {
		t.Errorf("without data: %q, %v", where, err)
	}
}

func TestSetAsideLeavesAlone(t *testing.T) {
	for _, path := range []string{"relative", "/", "/etc/../etc", ""} {
		if where, err := SetAside(path, "u"); err == nil {
			t.Errorf("%q: %q", path, where)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	write(t, other, "precious", "x")
	if where, err := SetAside(other, "u"); err != nil || where != "" || !exists(filepath.Join(other, "precious")) {
		t.Errorf("no data directory: %q, %v", where, err)
	}
}

// TestSetAsideOfARunningServer: a server in the directory is a refusal; a pid file
// that a crash left is not.
func TestSetAsideOfARunningServer(t *testing.T) {
	data := dataDir(t)
	program := filepath.Join(t.TempDir(), "postgres")
	if out, err := exec.Command("cp", "/bin/sleep", program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(program, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write(t, data, "postmaster.pid", fmt.Sprintf("%d\n%s\n", cmd.Process.Pid, data))
	var r *plan.Refusal
	if where, err := SetAside(data, "u"); !errors.As(err, &r) || !exists(data) {
		t.Errorf("%q, %v", where, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if where, err := SetAside(data, "u"); err != nil || where != data+".removed-u" {
		t.Errorf("%q, %v", where, err)
	}
}
