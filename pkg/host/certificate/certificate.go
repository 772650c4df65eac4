// Package certificate judges the files that a program is to show to its clients before
// it gets them, and looks at what it shows afterwards.
//
// Neither PostgreSQL nor PgBouncer can be asked. Of a reload with files that they can't
// use both say nothing to who asked for it, keep the certificate that they had, and take
// every other setting (PostgreSQL 15 and 17, PgBouncer 1.18 and 1.24, measured). So the
// files are judged first, and then a handshake must show the new certificate.
package certificate

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/internal/pki"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Files are where a program finds what it shows; empty: it shows nothing.
type Files struct{ Certificate, Key, Authority string }

// Any reports whether the program shows anything.
func (f Files) Any() bool { return f.Certificate != "" }

// named are the files with the fields of the document that name them.
func (f Files) named() []named {
	out := []named{{"tls_certificate", f.Certificate}, {"tls_key", f.Key}, {"tls_authority", f.Authority}}
	return slices.DeleteFunc(out, func(n named) bool { return n.path == "" })
}

type named struct{ field, path string }

// Judge reads certificates and keys as the programs do.
type Judge struct {
	// User runs the programs; who the agent runs as when it is not root.
	User string
}

// hidden are folders that the units of the programs don't see (ProtectHome).
var hidden = []string{"/home/", "/root/", "/run/user/"}

// Check refuses files that the program could not use, by the field and the path. staged
// are the files that come with its configuration, by their final paths.
func (j Judge) Check(f Files, staged map[string]string, now time.Time) error {
	if !f.Any() {
		return nil
	}
	content := map[string][]byte{}
	for _, n := range f.named() {
		b, err := j.read(n, staged)
		if err != nil {
			return refuse(n, "namei -l "+n.path, err)
		}
		content[n.field] = b
	}
	crt, key := f.named()[0], f.named()[1]
	chain, err := pki.Certificates(content[crt.field])
	if err != nil {
		return refuse(crt, "openssl x509 -noout -text -in "+crt.path, err)
	}
	switch leaf := chain[0]; {
	case now.After(leaf.NotAfter):
		return refuse(crt, "openssl x509 -noout -dates -in "+crt.path, fmt.Errorf("it expired on %s", date(leaf.NotAfter)))
	case now.Before(leaf.NotBefore):
		return refuse(crt, "openssl x509 -noout -dates -in "+crt.path, fmt.Errorf("it is not good before %s", date(leaf.NotBefore)))
	}
	private, err := pki.Key(content[key.field])
	if err == nil {
		err = pki.Belong(chain[0], private)
	}
	if err != nil {
		return refuse(key, "openssl x509 -noout -text -in "+crt.path, err)
	}
	if ca := f.Authority; ca != "" {
		if _, err := pki.Certificates(content["tls_authority"]); err != nil {
			return refuse(named{"tls_authority", ca}, "openssl x509 -noout -text -in "+ca, err)
		}
	}
	return nil
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func refuse(n named, next string, why error) error {
	return &plan.Refusal{Reason: observed.Rejected, Document: "postgres", Next: next,
		Message: fmt.Sprintf("%s: %s: %v", n.field, n.path, why)}
}

// read is a file's content as the programs see it.
func (j Judge) read(n named, staged map[string]string) ([]byte, error) {
	if path, ours := staged[n.path]; ours {
		return os.ReadFile(path)
	}
	for _, dir := range hidden {
		if strings.HasPrefix(n.path, dir) {
			return nil, fmt.Errorf("PostgreSQL and PgBouncer don't see what is under %s", dir)
		}
	}
	b, st, err := readAs(j.User, n.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("it does not exist")
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the user %s can't read it", j.User)
	case err != nil:
		return nil, err
	case n.field == "tls_key":
		return b, guarded(st, j.User)
	}
	return b, nil
}

// Outside identifies what is in those of the files that are not ours, so that another
// content of theirs is another configuration. What could be wrong with a file's access
// is part of it: put right, it is tried again.
func (j Judge) Outside(f Files, ours func(path string) bool) string {
	sum := sha256.New()
	found := false
	for _, n := range f.named() {
		if ours(n.path) {
			continue
		}
		found = true
		b, err := j.read(n, nil)
		fmt.Fprintf(sum, "%s %d %s %v\n", n.path, len(b), b, err)
	}
	if !found {
		return ""
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// Leaf is the certificate in a file that is in place.
func Leaf(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	chain, err := pki.Certificates(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return chain[0], nil
}
