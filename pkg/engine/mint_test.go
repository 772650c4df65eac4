package engine

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/pki"
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// TestMintCertificates: an authority, its certificate without the key, and a server's
// certificate that it signed, in one go and once; no controller sees any of them.
func TestMintCertificates(t *testing.T) {
	bubble(t, func(f farm) {
		key, public := layout.AuthorityKey("pg-test"), layout.Secret("pg-test", keys.TLSAuthority)
		server := layout.Secret("pg-test", keys.TLSSecret("one"))
		c := &fake{
			name:    "postgres",
			inputs:  []controllers.Access{{Family: keys.Desired}, {Family: keys.Secrets}},
			outputs: []controllers.Access{{Family: keys.Secrets}, {Family: keys.Authorities}},
		}
		seen := ""
		c.plan = func(in controllers.Input) (controllers.Result, error) {
			for _, k := range []string{key, public, server} {
				e, _ := in.Snapshot.Get(k)
				seen += string(e.Value)
			}
			r := outputs(key, "", public, "", server, "")
			for i, recipe := range []controllers.Recipe{
				{Kind: controllers.Authority, Name: "pg-test"},
				{Kind: controllers.AuthorityCertificate, From: key},
				{Kind: controllers.Certificate, From: key, Name: "pg-test", Names: []string{"pg-test-1", "10.0.0.1"}},
			} {
				r.Outputs[i].Mode, r.Outputs[i].Recipe = controllers.Mint, recipe
			}
			return r, nil
		}
		f.member("pg-test", "x")
		f.leader(c)
		f.settle()
		authority, _, _ := f.etcd.Get(key)
		certificate, _, _ := f.etcd.Get(public)
		leaf, rev, _ := f.etcd.Get(server)
		if _, _, err := pki.Read([]byte(authority)); err != nil {
			t.Fatalf("no authority was made: %v", err)
		}
		if strings.Contains(certificate, "PRIVATE") || !strings.HasPrefix(authority, certificate) {
			t.Error("what everybody may read is not the authority's certificate alone")
		}
		got, _, err := pki.Read([]byte(leaf))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(certificate))
		for _, name := range []string{"pg-test-1", "10.0.0.1"} {
			if _, err := got[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: time.Now()}); err != nil {
				t.Error(err)
			}
		}
		f.member("pg-test", "y")
		f.settle()
		if seen != "" {
			t.Error("a controller sees keys")
		}
		if _, again, _ := f.etcd.Get(server); again != rev {
			t.Error("the certificate was made again")
		}
	})
}

// TestMintPeer: a certificate that is its own authority is made of nothing else, once.
func TestMintPeer(t *testing.T) {
	bubble(t, func(f farm) {
		key := layout.Secret("pg-test", keys.BackupTLSSecret("one"))
		c := &fake{
			name:    "backup",
			inputs:  []controllers.Access{{Family: keys.Desired}, {Family: keys.Secrets}},
			outputs: []controllers.Access{{Family: keys.Secrets, Part: "backup-tls"}},
		}
		c.plan = func(controllers.Input) (controllers.Result, error) {
			r := outputs(key, "")
			r.Outputs[0].Mode, r.Outputs[0].Recipe = controllers.Mint, controllers.Recipe{Kind: controllers.Peer, Name: "pg-test", Names: []string{"10.0.0.1"}}
			return r, nil
		}
		f.member("pg-test", "x")
		f.leader(c)
		f.settle()
		text, rev, _ := f.etcd.Get(key)
		got, _, err := pki.Read([]byte(text))
		if err != nil || got[0].Subject.CommonName != "pg-test" || len(got[0].DNSNames) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		f.member("pg-test", "y")
		f.settle()
		if _, again, _ := f.etcd.Get(key); again != rev {
			t.Error("it was made again")
		}
	})
}

// TestMintFromElsewhere: nothing is made of a key that is no authority of the controller's
// own cluster, which would copy it to where others may read it.
func TestMintFromElsewhere(t *testing.T) {
	authority, err := pki.NewAuthority("another", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{
		"another cluster's": layout.AuthorityKey("pg-test2"),
		"a secret":          layout.Secret("pg-test", "postgres"),
		"none":              "",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(f farm) {
				c := &fake{name: "postgres", outputs: []controllers.Access{{Family: keys.Secrets}, {Family: keys.Authorities}}}
				to := layout.Secret("pg-test", keys.TLSAuthority)
				c.plan = func(controllers.Input) (controllers.Result, error) {
					r := outputs(to, "")
					r.Outputs[0].Mode, r.Outputs[0].Recipe = controllers.Mint, controllers.Recipe{Kind: controllers.AuthorityCertificate, From: from}
					return r, nil
				}
				if from != "" {
					f.etcd.Put(from, string(authority))
				}
				f.member("pg-test", "x")
				if e := f.leader(c); result(e, "postgres", resultError) == 0 {
					t.Error("nobody complains")
				}
				f.expect(to, "")
			})
		})
	}
}
