package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestIssue: who trusts the authority, and nothing else, trusts the server by each of its
// names and by no other.
func TestIssue(t *testing.T) {
	authority := must[[]byte](t)(NewAuthority("pg-test", now))
	names := []string{"pg-test-1", "db_1", "10.0.0.1", "fd00::1", "localhost"}
	text := must[[]byte](t)(Issue(authority, "pg-test", names, now))
	public := must[[]byte](t)(AuthorityCertificate(authority))
	if bytes.Contains(public, []byte("PRIVATE")) {
		t.Fatal("the authority's certificate comes with its key")
	}
	pool := x509.NewCertPool()
	pool.AddCert(must[[]*x509.Certificate](t)(Certificates(public))[0])
	leaf := must[[]*x509.Certificate](t)(Certificates(text))[0]
	for _, n := range append(slices.Clone(names), "10.0.0.2", "pg-test-2", "*") {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: n, CurrentTime: now.Add(364 * 24 * time.Hour)})
		if ours := slices.Contains(names, n); (err == nil) != ours {
			t.Errorf("as %s: %v", n, err)
		}
	}
	for _, at := range []time.Time{now.Add(-2 * time.Hour), now.Add(366 * 24 * time.Hour)} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at}); err == nil {
			t.Errorf("it is good at %s", at)
		}
	}
	if leaf.IsCA {
		t.Error("a server's certificate can sign others")
	}
}

func TestIssueEndsWithTheAuthority(t *testing.T) {
	authority := must[[]byte](t)(NewAuthority("pg-test", now))
	late := now.Add(AuthorityLife - time.Hour)
	leaf := must[[]*x509.Certificate](t)(Certificates(must[[]byte](t)(Issue(authority, "pg-test", nil, late))))[0]
	if !leaf.NotAfter.Equal(now.Add(AuthorityLife)) {
		t.Errorf("it outlives its authority: %s", leaf.NotAfter)
	}
	if _, err := Issue(authority, "pg-test", nil, late.Add(2*time.Hour)); !errors.Is(err, ErrNotAfter) {
		t.Errorf("an authority that has expired issues: %v", err)
	}
}

// TestPeer: who has it trusts it as a server's and as a client's, and nobody else's; addresses
// are names in it.
func TestPeer(t *testing.T) {
	one := must[[]byte](t)(Peer("pg-test", []string{"10.0.0.1", "fd00::1"}, now))
	other := must[[]byte](t)(Peer("pg-test", []string{"10.0.0.1"}, now))
	c, _, err := Read(one)
	if err != nil {
		t.Fatal(err)
	}
	foreign := must[[]*x509.Certificate](t)(Certificates(other))[0]
	pool := x509.NewCertPool()
	pool.AddCert(c[0])
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		o := x509.VerifyOptions{Roots: pool, CurrentTime: now.Add(time.Hour), KeyUsages: []x509.ExtKeyUsage{use}}
		if _, err := c[0].Verify(o); err != nil {
			t.Errorf("use %d: %v", use, err)
		}
		if _, err := foreign.Verify(o); err == nil {
			t.Error("one of the same name that was made at another time is trusted")
		}
	}
	if !slices.Equal(c[0].DNSNames, []string{"10.0.0.1", "fd00::1"}) {
		t.Errorf("names %v", c[0].DNSNames)
	}
}

func TestReadWhatIsWrong(t *testing.T) {
	one := must[[]byte](t)(NewAuthority("one", now))
	two := must[[]byte](t)(NewAuthority("two", now))
	certificate := must[[]byte](t)(AuthorityCertificate(one))
	key := func(text []byte) []byte { return text[bytes.Index(text, []byte("-----BEGIN PRIVATE")):] }
	for name, c := range map[string]struct{ text, words string }{
		"empty":         {"", "no certificate"},
		"no key":        {string(certificate), "no private key"},
		"another's key": {string(certificate) + string(key(two)), "don't belong together"},
		"encrypted":     {string(certificate) + "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "passphrase"},
		"garbled":       {string(certificate) + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "can't be parsed"},
	} {
		if _, _, err := Read([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, expected %q", name, err, c.words)
		}
	}
	// A comment before the blocks, as our files have one, is no fault.
	if _, _, err := Read(append([]byte("# whose it is\n"), one...)); err != nil {
		t.Error(err)
	}
}
