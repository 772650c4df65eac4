package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/pki/pkitest"
	"github.com/pgctrl/pgctrl/pkg/host/certificate"
	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// withTLS is the rig's unit with what the settings say of TLS.
func (r *rig) withTLS(mode, crt, key string) plan.Unit {
	return r.unit("client_tls_sslmode = "+mode, "client_tls_cert_file = "+crt, "client_tls_key_file = "+key)
}

// shown is whose certificate the running PgBouncer shows; empty: it offers no TLS.
func (r *rig) shown() string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := certificate.Shown(ctx, net.JoinHostPort("127.0.0.1", fmt.Sprint(r.port)))
	if err != nil {
		return ""
	}
	return c.Subject.CommonName
}

func (r *rig) put(name string, content []byte) string {
	r.t.Helper()
	path := filepath.Join(r.dir, "etc", name)
	if err := errors.Join(os.WriteFile(path, content, 0o600), r.own(path)); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// own gives a file to whom PgBouncer runs as.
func (r *rig) own(path string) error {
	as, err := files.Credential(r.program.o.User)
	if err != nil {
		return err
	}
	return give(path, as)
}

// TestTLSFollowsItsFiles: switched on, renewed and off without another process, whether
// the certificate comes with the configuration or lies elsewhere.
func TestTLSFollowsItsFiles(t *testing.T) {
	r := newRig(t)
	secret := map[string][]byte{"pooler": []byte("hushhush"), "tls/one": pkitest.Pair(t, "one", time.Now()), "tls/two": pkitest.Pair(t, "two", time.Now())}
	r.secret = func(name string) ([]byte, bool) { v, ok := secret[name]; return v, ok }
	if err := r.apply(r.unit()); err != nil {
		t.Fatal(err)
	}
	pid := r.cmd.Process.Pid
	ours := filepath.Join(r.dir, "etc/pg.tls.pem")
	for _, name := range []string{"one", "two"} {
		u := r.withTLS("allow", ours, ours)
		u.Files = append(u.Files, plan.File{Path: ours, Mode: "0644", Content: "# a comment\n" + plan.SecretRef("tls/"+name, plan.FormatPEM) + "\n"})
		if err := r.apply(u); err != nil {
			t.Fatal(err)
		}
		if got := r.shown(); got != name {
			t.Errorf("it shows %q, want %s", got, name)
		}
	}
	crt := r.put("theirs.pem", pkitest.Pair(t, "three", time.Now()))
	u := r.withTLS("require", crt, crt)
	if err := r.apply(u); err != nil {
		t.Fatal(err)
	}
	// Somebody renews it; nobody told us.
	r.put("theirs.pem", pkitest.Pair(t, "four", time.Now()))
	if diff, err := r.driver.Diff(context.Background(), u); err != nil || !strings.Contains(diff.String(), "other content") {
		t.Errorf("a renewed certificate is not seen: %v, %v", diff, err)
	}
	if err := r.apply(u); err != nil || r.shown() != "four" {
		t.Errorf("it shows %q: %v", r.shown(), err)
	}
	if diff, err := r.driver.Diff(context.Background(), u); err != nil || !diff.Empty() {
		t.Errorf("after that: %v, %v", diff, err)
	}
	if err := r.apply(r.unit()); err != nil || r.shown() != "" || r.shows("client_tls_sslmode") != "disable" {
		t.Errorf("off: shows %q, sslmode %q: %v", r.shown(), r.shows("client_tls_sslmode"), err)
	}
	if _, err := os.Stat(ours); !os.IsNotExist(err) {
		t.Errorf("the key is left on the host: %v", err)
	}
	if r.cmd.Process.Pid != pid || r.restart > 0 {
		t.Errorf("process %d then %d, %d restarts", pid, r.cmd.Process.Pid, r.restart)
	}
}

// TestR5BadCertificate: files that PgBouncer could not use change nothing, and the answer
// says which and why. One that was put right is taken.
func TestR5BadCertificate(t *testing.T) {
	r := newRig(t)
	good := r.put("good.pem", pkitest.Pair(t, "good", time.Now()))
	if err := r.apply(r.withTLS("allow", good, good)); err != nil {
		t.Fatal(err)
	}
	other := r.put("other.pem", pkitest.Pair(t, "other", time.Now()))
	expired := r.put("expired.pem", pkitest.Pair(t, "expired", time.Now().Add(-500*24*time.Hour)))
	open := r.put("open.pem", pkitest.Pair(t, "open", time.Now()))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(r.dir, "etc/later.pem")
	for _, c := range []struct{ crt, key, words string }{
		{missing, good, "tls_certificate: " + missing + ": it does not exist"},
		{good, other, "tls_key: " + other + ": the key and the certificate don't belong together"},
		{expired, expired, "tls_certificate: " + expired + ": it expired on"},
		{open, open, "tls_key: " + open + ": others can read it (mode 0644)"},
		{r.ini(), r.ini(), "there is no certificate in it"},
		{"/root/x.pem", "/root/x.pem", "don't see what is under /root/"},
	} {
		u := r.withTLS("allow", c.crt, c.key)
		u.Files[0].Content += "max_client_conn = 55\n"
		var no *plan.Refusal
		if err := r.apply(u); !errors.As(err, &no) || no.Reason != observed.Rejected || !strings.Contains(no.Message, c.words) || no.Document != "postgres" || no.Next == "" {
			t.Errorf("%s with %s: %v, want %q", c.crt, c.key, err, c.words)
		}
		if r.shown() != "good" || r.shows("max_client_conn") != "100" {
			t.Errorf("%s with %s: it shows %q and has max_client_conn %s", c.crt, c.key, r.shown(), r.shows("max_client_conn"))
		}
	}
	u := r.withTLS("allow", missing, missing)
	if err := r.apply(u); err == nil {
		t.Fatal("a missing file was taken")
	}
	r.put("later.pem", pkitest.Pair(t, "later", time.Now()))
	if err := r.apply(u); err != nil || r.shown() != "later" {
		t.Errorf("it is there now, and %q is shown: %v", r.shown(), err)
	}
}

// TestR5CertificateNotTaken: PgBouncer answers RELOAD, shows the new settings, and goes on
// with the certificate that it had. That is found out, and everything goes back.
func TestR5CertificateNotTaken(t *testing.T) {
	r := newRig(t)
	good := r.put("good.pem", pkitest.Pair(t, "good", time.Now()))
	if err := r.apply(r.withTLS("allow", good, good)); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(r.ini())
	r.programs[plan.Pooler] = trusting{r.program}
	crt, key := r.put("a.pem", pkitest.Pair(t, "a", time.Now())), r.put("b.pem", pkitest.Pair(t, "b", time.Now()))
	var no *plan.Refusal
	if err := r.apply(r.withTLS("allow", crt, key)); !errors.As(err, &no) || no.Reason != observed.RolledBack || !strings.Contains(no.Message, "shows another certificate") {
		t.Errorf("got %v", err)
	}
	if after, _ := os.ReadFile(r.ini()); string(after) != string(before) || r.shown() != "good" {
		t.Errorf("it shows %q, file changed: %v", r.shown(), string(after) != string(before))
	}
}
