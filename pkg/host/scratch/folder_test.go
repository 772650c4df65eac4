package scratch

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func refused(t *testing.T, what string, err error) {
	t.Helper()
	if no, is := errors.AsType[*plan.Refusal](err); !is || no.Reason != observed.Unmanaged {
		t.Errorf("%s: %v", what, err)
	}
}

// TestOnlyItsOwnFolderIsRemoved: whatever else is at the place stays, and no link is followed.
func TestOnlyItsOwnFolderIsRemoved(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	there := func(path string) {
		t.Helper()
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	top := t.TempDir()
	o := Order{Step: "c.verify-1", Dir: top + "/scr"}
	must(makeFolder(o, "nobody"))
	if info, err := os.Stat(o.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatal(info.Mode(), err)
	}
	// The same step begins again on what it left.
	must(os.MkdirAll(o.Dir+"/data/base", 0o700))
	must(makeFolder(o, "nobody"))
	if _, err := os.Lstat(o.Dir + "/data"); !os.IsNotExist(err) {
		t.Error("what was half made is left")
	}
	// Another one's is not touched, but for Remove, which is for any.
	other := o
	other.Step = "c.verify-2"
	refused(t, "another step's", makeFolder(other, "nobody"))
	// What is linked to from it stays.
	outside := t.TempDir()
	must(os.WriteFile(outside+"/precious", nil, 0o600))
	must(os.Symlink(outside, o.Dir+"/link"))
	must(removeFolder(o.Dir, ""))
	there(outside + "/precious")
	must(removeFolder(o.Dir, "")) // there is none
	// A link in its place, a file, and somebody's folder stay.
	must(os.WriteFile(outside+"/"+orderFile, []byte(`{"step":"c.verify-1"}`), 0o600))
	must(os.Symlink(outside, o.Dir))
	refused(t, "a link", removeFolder(o.Dir, ""))
	refused(t, "a link", makeFolder(o, "nobody"))
	there(outside + "/precious")
	must(os.Remove(o.Dir))
	must(os.WriteFile(o.Dir, nil, 0o600))
	refused(t, "a file", removeFolder(o.Dir, ""))
	must(os.Remove(o.Dir))
	must(os.MkdirAll(o.Dir+"/base", 0o700))
	refused(t, "somebody's folder", removeFolder(o.Dir, ""))
	refused(t, "somebody's folder", makeFolder(o, "nobody"))
	must(os.Symlink(outside+"/"+orderFile, filepath.Join(o.Dir, orderFile)))
	refused(t, "a linked mark", removeFolder(o.Dir, ""))
	must(os.RemoveAll(o.Dir))
	must(os.Mkdir(o.Dir, 0o700)) // made a moment before a crash
	must(makeFolder(o, "nobody"))
}
