package hookcmd_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/pgctrl/pgctrl/pkg/host/hookcmd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder is a folder of hooks, <top>/etc/hooks, that passes every look.
type folder struct {
	t        *testing.T
	top, dir string
}

func newFolder(t *testing.T) folder {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make files that are root's")
	}
	top := t.TempDir()
	f := folder{t, top, filepath.Join(top, "etc", "hooks")}
	f.do(os.Chmod(top, 0o755))
	f.do(os.MkdirAll(f.dir, 0o755))
	return f
}

func (f folder) do(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// script writes a program and returns its path.
func (f folder) script(name, text string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	f.do(os.WriteFile(path, []byte(text), 0o755))
	f.do(os.Chmod(path, 0o755)) // whatever the umask is
	return path
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		program    string // page when empty
		spoil      func(f folder, page string)
		want, next string
	}{
		"a symbolic link": {spoil: func(f folder, page string) {
			f.do(os.Rename(page, page+".real"))
			f.do(os.Symlink(page+".real", page))
		}, want: "is a symbolic link", next: "cp --remove-destination $(readlink -f DIR/page) DIR/page"},
		"outside":               {program: "../hooks/page", want: "is not in the folder of hooks", next: "ls -l DIR"},
		"another folder's":      {program: "/bin/true", want: "is not in the folder of hooks", next: "ls -l DIR"},
		"the folder's parent":   {program: "..", want: "is not in the folder of hooks", next: "ls -l DIR"},
		"a folder in it":        {program: "sub/page", want: "is not in the folder of hooks", next: "ls -l DIR"},
		"missing":               {program: "gone", want: "there is no program DIR/gone", next: "install -o root -g root -m 0755 gone DIR/gone"},
		"others may write":      {spoil: func(f folder, page string) { f.do(os.Chmod(page, 0o757)) }, want: "page can be written by others (mode 0757)", next: "chmod go-w DIR/page"},
		"its group may write":   {spoil: func(f folder, page string) { f.do(os.Chmod(page, 0o775)) }, want: "page can be written by its group (mode 0775)", next: "chmod go-w DIR/page"},
		"somebody's":            {spoil: func(f folder, page string) { f.do(os.Chown(page, 1000, 0)) }, want: "page belongs to user 1000 and not to root", next: "chown root:root DIR/page"},
		"not executable":        {spoil: func(f folder, page string) { f.do(os.Chmod(page, 0o644)) }, want: "page is not executable (mode 0644)", next: "chmod u+x DIR/page"},
		"a folder by its name":  {spoil: func(f folder, page string) { f.do(os.Remove(page)); f.do(os.Mkdir(page, 0o755)) }, want: "page is a folder and not a program", next: "ls -l DIR/page"},
		"a pipe":                {spoil: func(f folder, page string) { f.do(os.Remove(page)); f.do(syscall.Mkfifo(page, 0o755)) }, want: "page is not a regular file", next: "ls -l DIR/page"},
		"anybody may add":       {spoil: func(f folder, _ string) { f.do(os.Chmod(f.dir, 0o777)) }, want: "hooks can be written by its group and others (mode 0777)", next: "chmod go-w DIR"},
		"the folder somebody's": {spoil: func(f folder, _ string) { f.do(os.Chown(f.dir, 1000, 0)) }, want: "hooks belongs to user 1000 and not to root", next: "chown root:root DIR"},
		"the folder above":      {spoil: func(f folder, _ string) { f.do(os.Chmod(filepath.Dir(f.dir), 0o775)) }, want: "etc can be written by its group (mode 0775)", next: "chmod go-w TOP/etc"},
		"a sticky one above":    {spoil: func(f folder, _ string) { f.do(os.Chmod(f.top, 0o777|os.ModeSticky)) }, want: "can be written by its group and others (mode 1777)", next: "chmod go-w TOP"},
		"the folder a link": {spoil: func(f folder, _ string) {
			f.do(os.Rename(f.dir, f.dir+".real"))
			f.do(os.Symlink(f.dir+".real", f.dir))
		}, want: "hooks is a symbolic link", next: "pgagent config dump"},
		"no folder": {spoil: func(f folder, _ string) { f.do(os.RemoveAll(f.dir)) }, want: "there is no folder DIR", next: "install -d -o root -g root -m 0755 DIR"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t)
			page := f.script("page", "#!/bin/sh\n")
			if c.program == "" {
				c.program = "page"
			}
			if c.spoil != nil {
				c.spoil(f, page)
			}
			p, err := hookcmd.Open(f.top, f.dir, c.program)
			if err == nil {
				p.Close()
				t.Fatal("it may be run")
			}
			no, is := errors.AsType[*plan.Refusal](err)
			if !is || no.Reason != observed.HookRefused {
				t.Fatalf("got %v", err)
			}
			fill := strings.NewReplacer("DIR", f.dir, "TOP", f.top)
			if !strings.Contains(no.Message, fill.Replace(c.want)) || no.Next != fill.Replace(c.next) {
				t.Errorf("got %q, next %q;\nwant %q, next %q", no.Message, no.Next, fill.Replace(c.want), fill.Replace(c.next))
			}
		})
	}
}

// TestOpenTakes: by its name, and by its path.
func TestOpenTakes(t *testing.T) {
	f := newFolder(t)
	page := f.script("page", "#!/bin/sh\n")
	for _, name := range []string{"page", page} {
		p, err := hookcmd.Open(f.top, f.dir, name)
		if err != nil {
			t.Fatal(err)
		}
		if p.Path != page {
			t.Errorf("%s is at %s", name, p.Path)
		}
		p.Close()
	}
}
