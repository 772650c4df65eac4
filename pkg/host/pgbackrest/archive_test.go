package pgbackrest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/wal"
)

// repo is a repository in a folder, as the real pgBackRest sees it, with the database's host.
type repo struct {
	t      *testing.T
	dir    string
	d      *Driver
	config config
}

// newRepo runs pgBackRest as whoever runs the test, with a file of its own.
func newRepo(t *testing.T) *repo {
	program, err := exec.LookPath("pgbackrest")
	if err != nil {
		t.Fatal("this test needs pgbackrest, which is missing; apt-get install pgbackrest")
	}
	r := &repo{t: t, dir: t.TempDir()}
	r.config = config{"c": {"pg1-path": r.dir + "/data", "repo1-path": r.dir + "/repo", "lock-path": r.dir + "/lock", "repo1-cipher-type": "none"}}
	text := "[c]\n"
	for k, v := range r.config["c"] {
		text += k + "=" + v + "\n"
	}
	r.file("c.conf", text)
	// The driver names the file below /etc; the program gets this one.
	script := fmt.Sprintf("#!/bin/sh\nshift\nexec %s --config=%s/c.conf --no-log-timestamp \"$@\"\n", program, r.dir)
	r.file("pgbackrest", script)
	if err := os.Chmod(r.dir+"/pgbackrest", 0o755); err != nil {
		t.Fatal(err)
	}
	r.d = New(Options{Node: "pg1", User: "root", Binary: r.dir + "/pgbackrest"})
	for _, folder := range []string{"repo/archive/c/15-1", "data/pg_wal/archive_status"} {
		r.folder(folder)
	}
	return r
}

func (r *repo) folder(path string) {
	if err := os.MkdirAll(filepath.Join(r.dir, path), 0o755); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repo) file(path, text string) {
	path = filepath.Join(r.dir, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		r.t.Fatal(err)
	}
}

// archives puts segments into the archive, and with waits leaves them to be sent.
func (r *repo) archives(tl, from, to int) {
	for s := from; s <= to; s++ {
		log := fmt.Sprintf("%08X%08X", tl, s>>8)
		r.file(fmt.Sprintf("repo/archive/c/15-1/%s/%s%08X-e4120e6f8eba6aca5a7c05692829c41f5e131ec4.zst", log, log, s&255), "x")
	}
}

func (r *repo) waits(name string, size int64) {
	r.file("data/pg_wal/"+name, "")
	r.file("data/pg_wal/archive_status/"+name+".ready", "")
	if err := os.Truncate(filepath.Join(r.dir, "data/pg_wal", name), size); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repo) gaps(first string) string {
	r.t.Helper()
	found := &observed.Repository{Backups: []observed.Backup{{FirstWAL: first}}}
	if err := r.d.findGaps(r.t.Context(), r.config, "c", "15-1", found); err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, g := range found.Gaps {
		if g.Since.IsZero() != (time.Until(g.Until).Abs() > time.Hour) {
			r.t.Errorf("times of %+v", g)
		}
		out = append(out, g.String())
	}
	return strings.Join(out, ", ")
}

// TestGapsOfARealListing: the real pgBackRest lists a folder with histories, partial segments and
// what else lies there.
func TestGapsOfARealListing(t *testing.T) {
	r := newRepo(t)
	r.archives(1, 2, 300)
	r.file("repo/archive/c/15-1/0000000100000000/000000010000000000000002.00000028.backup", "x")
	r.file("repo/archive/c/15-1/0000000100000001/00000001000000010000002D.partial-7044c489d0e04f0266d2687e75a6e0737f1a05a3.gz", "x")
	const first = "000000010000000000000002"
	if got := r.gaps(first); got != "" {
		t.Errorf("a whole archive lacks %s", got)
	}
	r.file("repo/archive/c/15-1/00000002.history", "1\t1/2D000138\tno recovery target specified\n")
	r.archives(2, 301, 310)
	if got := r.gaps(first); got != "" {
		t.Errorf("one over a move lacks %s", got)
	}
	gone := "repo/archive/c/15-1/0000000100000000/0000000100000000000000FF-e4120e6f8eba6aca5a7c05692829c41f5e131ec4.zst"
	if err := os.Remove(filepath.Join(r.dir, gone)); err != nil {
		t.Fatal(err)
	}
	if got := r.gaps(first); got != "0000000100000000000000FF" {
		t.Errorf("it lacks %q", got)
	}
	// While it waits here it is on its way.
	r.waits("0000000100000000000000FF", 16<<20)
	if got := r.gaps(first); got != "" {
		t.Errorf("while it waits %q is said", got)
	}
}

// TestAHistoryThatWaits is read where it is.
func TestAHistoryThatWaits(t *testing.T) {
	r := newRepo(t)
	r.archives(1, 2, 5)
	r.archives(2, 7, 8)
	r.waits("00000002.history", 0)
	r.file("data/pg_wal/00000002.history", "1\t0/6000138\tx\n")
	if got := r.gaps("000000010000000000000002"); got != "000000020000000000000006" {
		t.Errorf("it lacks %q", got)
	}
	if err := os.Remove(filepath.Join(r.dir, "data/pg_wal/archive_status/00000002.history.ready")); err != nil {
		t.Fatal(err)
	}
	if got := r.gaps("000000010000000000000002"); got != "000000010000000000000006 to 00000002.history (1 segment)" {
		t.Errorf("without it %q is said", got)
	}
}

func TestGapsAreBounded(t *testing.T) {
	r := newRepo(t)
	for i := range 2*observed.MaxGaps + 1 {
		r.archives(1, 2+2*i, 2+2*i)
	}
	found := &observed.Repository{Backups: []observed.Backup{{FirstWAL: "000000010000000000000002"}}}
	if err := r.d.findGaps(t.Context(), r.config, "c", "15-1", found); err != nil {
		t.Fatal(err)
	}
	if len(found.Gaps) != observed.MaxGaps || found.MoreGaps != observed.MaxGaps || found.Gaps[observed.MaxGaps-1].First != "000000010000000000000021" {
		t.Errorf("%d, %d more, %v", len(found.Gaps), found.MoreGaps, found.Gaps)
	}
}

func TestSegmentSizeOfTheHost(t *testing.T) {
	r := newRepo(t)
	folder := r.dir + "/data/pg_wal"
	if n := segmentSize(folder); n != 0 || segmentSize(folder+"/absent") != 0 {
		t.Errorf("of nothing: %d", n)
	}
	r.waits("000000010000000000000003", 64<<20)
	if n := segmentSize(folder); n != 64<<20 {
		t.Errorf("%d", n)
	}
	r.archives(1, 0x3E, 0x3F)
	r.archives(1, 0x100, 0x101)
	if got := r.gaps("00000001000000000000003E"); got != "" {
		t.Errorf("it lacks %s", got)
	}
}

// TestArchiveThatIsNotThere: a folder that is gone has nothing, and a listing that is cut off
// is an error and not a gap.
func TestArchiveThatIsNotThere(t *testing.T) {
	a := &wal.Archive{}
	for _, bad := range []string{"", "[]", `{"a":{"type":"file"`, `{"a":{"type":"file","time":1}`, `{"a":1}`} {
		if err := readListing(strings.NewReader(bad), a.Add); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	r := newRepo(t)
	if err := r.d.list(t.Context(), a, "c", "15-9"); err != nil || a.Newest() != 0 {
		t.Error(err)
	}
	r.d.o.Binary = r.dir + "/absent"
	if err := r.d.list(t.Context(), a, "c", "15-1"); err == nil {
		t.Error("no program, no error")
	}
}

func TestDropped(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("00000001000000000000000A.ok", "")
	if got := droppedIn(dir); got != "" {
		t.Error(got)
	}
	put("000000010000000000000008.ok", "0\ndropped WAL file '000000010000000000000008' because archive queue exceeded 32MB")
	put("000000010000000000000009.ok", "0\nWAL segment already exists in the archive")
	if got := droppedIn(dir); got != "000000010000000000000008" {
		t.Error(got)
	}
	if err := errors.Join(os.Remove(dir+"/000000010000000000000008.ok"), os.Symlink("/etc/shadow", dir+"/00000001000000000000000B.ok")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir + "/000000010000000000000008.ok"); !errors.Is(err, fs.ErrNotExist) || droppedIn(dir) != "" {
		t.Error("a link is followed")
	}
}
