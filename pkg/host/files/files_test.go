package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out
}

func TestAtomicWriteSetsContentModeAndOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "er", "a.cfg")
	for _, content := range []string{"one", "two"} {
		if err := AtomicWrite(path, []byte(content), 0o640, ""); err != nil {
			t.Fatal(err)
		}
		d, err := Same(path, []byte(content), 0o640, "")
		if err != nil || d.Any() {
			t.Fatalf("after writing %q: %v, %v", content, d, err)
		}
	}
	if got := names(t, filepath.Dir(path)); !cmp.Equal(got, []string{"a.cfg"}) {
		t.Fatalf("left behind: %v", got)
	}
}

// A write that fails anywhere before the rename leaves the old file and no stage.
func TestFailureAtEveryStepLeavesTheOldFile(t *testing.T) {
	for _, step := range []string{"create", "write", "chown", "chmod", "sync", "close", "rename"} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a.cfg")
			if err := AtomicWrite(path, []byte("old"), 0o600, ""); err != nil {
				t.Fatal(err)
			}
			f := FS{Fault: func(s, _ string) error {
				if s == step {
					return syscall.ENOSPC
				}
				return nil
			}}
			err := f.AtomicWrite(path, []byte("new"), 0o644, "")
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v does not say that the disk is full and which file", err)
			}
			if d, err := Same(path, []byte("old"), 0o600, ""); err != nil || d.Any() {
				t.Errorf("old file: %v, %v", d, err)
			}
			if got := names(t, dir); len(got) != 1 {
				t.Errorf("left behind: %v", got)
			}
		})
	}
}

// The same on a disk that is really full.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	path := filepath.Join(dir, "a.cfg")
	if err := AtomicWrite(path, []byte("old"), 0o600, ""); err != nil {
		t.Fatal(err)
	}
	err := AtomicWrite(path, make([]byte, 1<<20), 0o600, "")
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("writing 1 MiB to 64 KiB: %v", err)
	}
	if read(t, path) != "old" || len(names(t, dir)) != 1 {
		t.Fatalf("file %q, folder %v", read(t, path), names(t, dir))
	}
}

func TestOnlyAllowedFolders(t *testing.T) {
	base := t.TempDir()
	allowed, outside := filepath.Join(base, "etc"), filepath.Join(base, "outside")
	for _, d := range []string{allowed, outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(allowed, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "victim"), filepath.Join(allowed, "link.cfg")); err != nil {
		t.Fatal(err)
	}
	f := FS{Allow: []string{allowed + "/"}}
	for _, path := range []string{
		outside + "/a", allowed + "/../outside/a", allowed + "x/a", "relative", allowed, allowed + "/out/a",
	} {
		if err := f.AtomicWrite(path, []byte("x"), 0o600, ""); err == nil {
			t.Errorf("%s was written", path)
		}
	}
	if err := f.Permitted(outside + "/a"); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("outside: %v", err)
	}
	// A link in the place of the file is replaced, and what it pointed at is not touched.
	if err := f.AtomicWrite(allowed+"/link.cfg", []byte("x"), 0o600, ""); err != nil {
		t.Fatal(err)
	}
	if got := names(t, outside); len(got) != 0 {
		t.Errorf("written outside: %v", got)
	}
	if read(t, allowed+"/link.cfg") != "x" {
		t.Error("the link was not replaced")
	}
}

func TestSnapshotAndRestore(t *testing.T) {
	dir := t.TempDir()
	p := func(n string) string { return filepath.Join(dir, n) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(AtomicWrite(p("kept"), []byte("kept"), 0o640, ""))
	must(AtomicWrite(p("changed"), []byte("before"), 0o604, ""))
	must(AtomicWrite(p("removed"), []byte("removed"), 0o600, ""))
	must(os.Symlink("kept", p("link")))
	before, err := FS{}.Snapshot(p("kept"), p("changed"), p("removed"), p("link"), p("absent"), p("no/folder"))
	must(err)

	must(AtomicWrite(p("changed"), []byte("after"), 0o600, ""))
	must(AtomicWrite(p("absent"), []byte("new"), 0o600, ""))
	must(AtomicWrite(p("link"), []byte("a file now"), 0o600, ""))
	must(os.Remove(p("removed")))
	keptBefore, err := os.Stat(p("kept"))
	must(err)

	must(FS{}.Restore(before))
	after, err := FS{}.Snapshot(p("kept"), p("changed"), p("removed"), p("link"), p("absent"), p("no/folder"))
	must(err)
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
	keptAfter, err := os.Stat(p("kept"))
	must(err)
	if !os.SameFile(keptBefore, keptAfter) {
		t.Error("a file that was as saved has been rewritten")
	}
	if _, err := (FS{}).Snapshot(dir); err == nil {
		t.Error("a folder was saved as a file")
	}
}

func TestSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if d, err := Same(path, nil, 0o600, ""); err != nil || d.String() != "is missing" {
		t.Errorf("missing: %v, %v", d, err)
	}
	if err := AtomicWrite(path, []byte("x"), 0o640, ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		content, owner, want string
		mode                 fs.FileMode
	}{
		{"x", "", "", 0o640},
		{"y", "", "content differs", 0o640},
		{"y", "", "content and mode differ", 0o600},
		{"x", "7:7", "owner differs", 0o640},
	} {
		d, err := Same(path, []byte(c.content), c.mode, c.owner)
		if err != nil || d.String() != c.want {
			t.Errorf("%+v: %q, %v", c, d, err)
		}
	}
	if _, err := Same(path, nil, 0o600, "no-such-user:root"); err == nil {
		t.Error("an unknown owner was accepted")
	}
}

func TestSweepRemovesOnlyStagesOfThePath(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.cfg")
	p, err := FS{}.Prepare(path, []byte("x"), 0o600, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Discard()
	if err := AtomicWrite(filepath.Join(dir, "b.cfg"), nil, 0o600, ""); err != nil {
		t.Fatal(err)
	}
	if err := (FS{Allow: []string{filepath.Dir(dir)}}).Sweep(path); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); !cmp.Equal(got, []string{"b.cfg"}) {
		t.Errorf("left: %v", got)
	}
}

func TestParseMode(t *testing.T) {
	if m, err := ParseMode("0640"); err != nil || m != 0o640 {
		t.Errorf("%v, %v", m, err)
	}
	for _, bad := range []string{"", "rw", "4755", "0999"} {
		if _, err := ParseMode(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
