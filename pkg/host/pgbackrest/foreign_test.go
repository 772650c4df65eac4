package pgbackrest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestR11WordsOfAnother: the spool is PostgreSQL's user's, and the agent is root. A link there
// would publish what it points at, and a pipe would hold the agent up for ever.
func TestR11WordsOfAnother(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(secret, []byte("root:$y$secret\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "x.error")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "y.error"), 0o600); err != nil {
		t.Fatal(err)
	}
	if words := spoolWords(dir); words != "" {
		t.Errorf("says %q", words)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.error"), []byte("49\nno route\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if words := spoolWords(dir); words != "[49] no route" {
		t.Errorf("says %q", words)
	}
}
