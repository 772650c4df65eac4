// Package pki makes what TLS needs: an authority of a cluster's own and certificates
// signed by it. Everything is PEM. A key and its certificate are one text, so that they
// can't get apart: programs that read the one pass the other by.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// The lifetimes.
const (
	AuthorityLife   = 10 * 365 * 24 * time.Hour
	CertificateLife = 365 * 24 * time.Hour
	// backdated lets a host in whose clock is behind.
	backdated = time.Hour
)

const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

// ErrNotAfter: the authority ends before a certificate of it could begin.
var ErrNotAfter = errors.New("the authority has expired")

// NewAuthority makes an authority: its key and the certificate that it signed itself.
func NewAuthority(name string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of authority %s: %w", name, err)
	}
	t := template(name, now, now.Add(AuthorityLife))
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	return sign(t, t, key, key)
}

// AuthorityCertificate is the part of an authority that everybody may have.
func AuthorityCertificate(authority []byte) ([]byte, error) {
	c, _, err := Read(authority)
	if err != nil {
		return nil, fmt.Errorf("read an authority: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: c[0].Raw}), nil
}

// Issue makes a server's certificate, with its key. names are those and the addresses by
// which clients may come.
func Issue(authority []byte, name string, names []string, now time.Time) ([]byte, error) {
	ca, caKey, err := Read(authority)
	if err != nil {
		return nil, fmt.Errorf("read the authority of %s: %w", name, err)
	}
	until := now.Add(CertificateLife)
	if ca[0].NotAfter.Before(until) {
		until = ca[0].NotAfter
	}
	if !until.After(now) {
		return nil, fmt.Errorf("issue a certificate for %s: %w", name, ErrNotAfter)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", name, err)
	}
	t := template(name, now, until)
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	t.BasicConstraintsValid = true
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	return sign(t, ca[0], key, caKey)
}

// Peer makes a certificate with its key that is its own authority: programs that have it show
// it and trust nothing else. All of names are names in it, addresses too, because pgBackRest
// 2.45 compares what it connects to with nothing but those.
func Peer(name string, names []string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", name, err)
	}
	t := template(name, now, now.Add(CertificateLife))
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	t.DNSNames = names
	return sign(t, t, key, key)
}

func template(name string, now, until time.Time) *x509.Certificate {
	var serial [16]byte
	_, _ = rand.Read(serial[:]) // it never fails; it ends the program instead
	serial[0] &= 0x7f
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdated), NotAfter: until,
	}
}

func sign(t, by *x509.Certificate, key *ecdsa.PrivateKey, byKey crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, by, key.Public(), byKey)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", t.Subject.CommonName, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write the key of %s: %w", t.Subject.CommonName, err)
	}
	return slices.Concat(
		pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: private})), nil
}

// Read takes a certificate, what it is signed by and its key out of one text.
func Read(text []byte) ([]*x509.Certificate, crypto.Signer, error) {
	certificates, err := Certificates(text)
	if err != nil {
		return nil, nil, err
	}
	key, err := Key(text)
	if err != nil {
		return nil, nil, err
	}
	return certificates, key, Belong(certificates[0], key)
}

// Certificates are those in a text, in their order; there is at least one.
func Certificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		if b.Type != certificateBlock {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse a certificate: %w", err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return out, nil
}

// Key is the private key in a text.
func Key(text []byte) (crypto.Signer, error) {
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		var key any
		var err error
		switch b.Type {
		case keyBlock:
			key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(b.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the key is encrypted, and nobody would be there to type its passphrase")
		default:
			continue
		}
		if err != nil {
			return nil, errors.New("the key can't be parsed") // whatever was wrong with it stays untold
		}
		if s, ok := key.(crypto.Signer); ok {
			return s, nil
		}
		return nil, fmt.Errorf("a key of type %T signs nothing", key)
	}
	return nil, errors.New("there is no private key in it")
}

// Belong says whether a key is that of a certificate.
func Belong(c *x509.Certificate, key crypto.Signer) error {
	public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return errors.New("the key and the certificate don't belong together")
	}
	return nil
}

// Fingerprint tells certificates apart.
func Fingerprint(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.Raw) }
