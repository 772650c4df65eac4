package watch_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/host/files/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counter counts calls, and waits for them.
type counter struct{ n atomic.Int64 }

func (c *counter) changed() { c.n.Add(1) }

func (c *counter) more(t *testing.T, what string, act func()) {
	t.Helper()
	c.quiet() // what came before is no answer to this
	before := c.n.Load()
	act()
	for deadline := time.Now().Add(3 * time.Second); c.n.Load() == before; {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not noticed", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// quiet waits until nothing was told for 50 ms.
func (c *counter) quiet() {
	for last := int64(-1); last != c.n.Load(); time.Sleep(50 * time.Millisecond) {
		last = c.n.Load()
	}
}

func start(t *testing.T, paths ...string) *counter {
	t.Helper()
	w := watch.New(nil)
	c := &counter{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Watch(ctx, paths, c.changed) }()
	t.Cleanup(func() { cancel(); <-done; w.Close() })
	time.Sleep(20 * time.Millisecond)
	return c
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNoticed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.cfg")
	ok(t, os.WriteFile(path, []byte("a"), 0o640))
	c := start(t, path, filepath.Join(dir, "other.cfg"))
	open, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	ok(t, err)
	defer open.Close()
	for _, step := range []struct {
		what string
		act  func() error
	}{
		{"a write that keeps the file open", func() error { _, err := open.WriteString("b"); return err }},
		{"a change of mode", func() error { return os.Chmod(path, 0o600) }},
		{"a change of owner", func() error { return os.Chown(path, os.Getuid(), os.Getgid()) }},
		{"another file renamed over it", func() error {
			ok(t, os.WriteFile(filepath.Join(dir, "tmp"), nil, 0o600))
			return os.Rename(filepath.Join(dir, "tmp"), path)
		}},
		{"a write to the file that was renamed", func() error { return os.WriteFile(path, []byte("x"), 0o600) }},
		{"our own atomic write", func() error { return files.AtomicWrite(path, []byte("y"), 0o600, "") }},
		{"removal", func() error { return os.Remove(path) }},
		{"a link in its place", func() error { return os.Symlink("/etc/passwd", path) }},
		{"moving it away", func() error { return os.Rename(path, path+".old") }},
		{"the other file", func() error { return os.WriteFile(filepath.Join(dir, "other.cfg"), nil, 0o600) }},
	} {
		c.more(t, step.what, func() { ok(t, step.act()) })
	}
}

// Our temporary files lie in the same folder, and so do other clusters' files.
func TestNeighboursAreNoNews(t *testing.T) {
	dir := t.TempDir()
	c := start(t, filepath.Join(dir, "c.cfg"))
	before := c.n.Load()
	ok(t, os.WriteFile(filepath.Join(dir, "d.cfg"), nil, 0o600))
	ok(t, os.Remove(filepath.Join(dir, "d.cfg")))
	time.Sleep(100 * time.Millisecond)
	if n := c.n.Load() - before; n != 0 {
		t.Errorf("told %d times", n)
	}
}

// A folder that comes later, goes, or is replaced is followed.
func TestFolderThatComesAndGoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub")
	path := filepath.Join(dir, "c.cfg")
	c := start(t, path)
	c.more(t, "the folder is made", func() { ok(t, os.Mkdir(dir, 0o700)) })
	c.more(t, "a file in it", func() { ok(t, os.WriteFile(path, nil, 0o600)) })
	c.more(t, "the folder is moved away", func() { ok(t, os.Rename(dir, dir+".old")) })
	c.more(t, "another one is made", func() { ok(t, os.Mkdir(dir, 0o700)) })
	c.more(t, "a file in that", func() { ok(t, os.WriteFile(path, nil, 0o600)) })
	c.more(t, "the folder is removed", func() { ok(t, os.RemoveAll(dir)) })
}

// Two clusters watch one folder; one that stops takes nothing from the other.
// TestNothingChangesInAFolderThatIsNotThere: it is looked for, and not told as changed until it is.
func TestNothingChangesInAFolderThatIsNotThere(t *testing.T) {
	c := start(t, filepath.Join(t.TempDir(), "later", "f"))
	time.Sleep(watch.Blind + time.Second)
	if n := c.n.Load(); n != 0 {
		t.Errorf("told %d times", n)
	}
}

func TestSharedFolder(t *testing.T) {
	dir := t.TempDir()
	w := watch.New(nil)
	defer w.Close()
	var a, b counter
	ctx, stop := context.WithCancel(t.Context())
	first := make(chan struct{})
	go func() { defer close(first); w.Watch(ctx, []string{dir + "/a"}, a.changed) }()
	go w.Watch(t.Context(), []string{dir + "/b"}, b.changed)
	time.Sleep(20 * time.Millisecond)
	a.more(t, "a", func() { ok(t, os.WriteFile(dir+"/a", nil, 0o600)) })
	stop()
	<-first
	before := a.n.Load()
	b.more(t, "b after a stopped", func() { ok(t, os.WriteFile(dir+"/b", nil, 0o600)) })
	ok(t, os.WriteFile(dir+"/a", []byte("x"), 0o600))
	time.Sleep(50 * time.Millisecond)
	if a.n.Load() != before {
		t.Error("told after it stopped")
	}
}
