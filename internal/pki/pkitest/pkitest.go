// Package pkitest makes certificates for tests.
package pkitest

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/pki"
)

// Pair is a certificate with its key for localhost, made at a time.
func Pair(t testing.TB, name string, at time.Time) []byte {
	t.Helper()
	authority, err := pki.NewAuthority("authority of "+name, at)
	if err != nil {
		t.Fatal(err)
	}
	text, err := pki.Issue(authority, name, []string{"localhost", "127.0.0.1"}, at)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
