package certificate

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/pki/pkitest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// anybody exists everywhere and may do nothing; root reads as he would.
var anybody = Judge{User: "nobody"}

func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "crt") // t.TempDir's parents are closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t *testing.T, path string, content []byte, mode os.FileMode) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, content, mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func refused(t *testing.T, err error, words string) {
	t.Helper()
	var no *plan.Refusal
	if !errors.As(err, &no) || no.Reason != observed.Rejected || !strings.Contains(no.Message, words) {
		t.Errorf("got %v, want %q", err, words)
	}
}

// TestWhoMayRead: what the agent can read and the program can't is refused; so is what
// stands in the way of a folder, and something that is no file.
func TestWhoMayRead(t *testing.T) {
	dir := folder(t)
	pair := pkitest.Pair(t, "db", time.Now())
	crt := put(t, filepath.Join(dir, "a.crt"), pair, 0o644)
	closed := put(t, filepath.Join(dir, "a.key"), pair, 0o000)
	refused(t, anybody.Check(Files{Certificate: crt, Key: closed}, nil, time.Now()), "tls_key: "+closed+": the user nobody can't read it")
	before := anybody.Outside(Files{Certificate: crt, Key: closed}, func(string) bool { return false })

	inside := filepath.Join(dir, "closed")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	deep := put(t, filepath.Join(inside, "b.crt"), pair, 0o644)
	if err := os.Chmod(inside, 0); err != nil {
		t.Fatal(err)
	}
	refused(t, anybody.Check(Files{Certificate: deep, Key: deep}, nil, time.Now()), "can't read it")
	refused(t, anybody.Check(Files{Certificate: dir, Key: dir}, nil, time.Now()), "it is no file")

	// Put right, the same content is another configuration: it is tried again.
	if err := os.Chmod(closed, 0o644); err != nil {
		t.Fatal(err)
	}
	if after := anybody.Outside(Files{Certificate: crt, Key: closed}, func(string) bool { return false }); after == before {
		t.Error("nobody would notice that the key can be read now")
	}
	refused(t, anybody.Check(Files{Certificate: crt, Key: closed}, nil, time.Now()), "others can read it (mode 0644)")
}

// TestStagedFilesAreJudgedAsTheyWillBe, and are nobody else's content.
func TestStagedFilesAreJudgedAsTheyWillBe(t *testing.T) {
	dir := folder(t)
	staged := put(t, filepath.Join(dir, "staged"), pkitest.Pair(t, "db", time.Now()), 0o600)
	f := Files{Certificate: "/etc/x/db.pem", Key: "/etc/x/db.pem", Authority: "/etc/x/ca.pem"}
	paths := map[string]string{"/etc/x/db.pem": staged, "/etc/x/ca.pem": staged}
	if err := anybody.Check(f, paths, time.Now()); err != nil {
		t.Error(err)
	}
	refused(t, anybody.Check(f, paths, time.Now().Add(366*24*time.Hour)), "it expired on")
	refused(t, anybody.Check(f, paths, time.Now().Add(-2*time.Hour)), "it is not good before")
	paths["/etc/x/ca.pem"] = put(t, filepath.Join(dir, "ca"), []byte("nothing"), 0o600)
	refused(t, anybody.Check(f, paths, time.Now()), "tls_authority: /etc/x/ca.pem: there is no certificate in it")
	if got := anybody.Outside(f, func(p string) bool { return paths[p] != "" }); got != "" {
		t.Errorf("files of ours count as somebody else's: %s", got)
	}
}

// TestProveAgainstWhoSpeaksNoTLS: a server that says no is told from one that is busy.
func TestProveAgainstWhoSpeaksNoTLS(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var b [8]byte
			_, _ = c.Read(b[:])
			_, _ = c.Write([]byte("N"))
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := Prove(t.Context(), port, Files{}); err != nil {
		t.Error(err)
	}
	crt := put(t, filepath.Join(folder(t), "a.crt"), pkitest.Pair(t, "db", time.Now()), 0o644)
	refused(t, Prove(t.Context(), port, Files{Certificate: crt, Key: crt}), "offers no TLS")
	ended, end := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, end)
	var no *plan.Refusal
	if err := Prove(ended, port, Files{Certificate: crt, Key: crt}); err == nil || errors.As(err, &no) {
		t.Errorf("an agent that ends is told %v", err)
	}
}

// TestProveByTheLastAnswer: what was answered counts, also when the time ends in the midst
// of the next question.
func TestProveByTheLastAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for answers := 1; ; answers-- {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var b [8]byte
			_, _ = c.Read(b[:])
			if answers > 0 {
				_, _ = c.Write([]byte("N"))
				c.Close()
			}
			defer c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	crt := put(t, filepath.Join(folder(t), "a.crt"), pkitest.Pair(t, "db", time.Now()), 0o644)
	refused(t, Prove(t.Context(), port, Files{Certificate: crt, Key: crt}), "offers no TLS")
}
