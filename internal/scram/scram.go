// Package scram makes what PostgreSQL and PgBouncer keep of passwords, SCRAM-SHA-256
// verifiers (RFC 5802 and 7677): who has one can tell whether somebody knows the
// password, and can't log in with it.
package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// iterations is PostgreSQL's own number. Its clients compute as many for every login,
// so more would cost every connection.
const iterations = 4096

// saltLength is PostgreSQL's own, in bytes.
const saltLength = 16

// mark is what every verifier begins with.
const mark = "SCRAM-SHA-256$"

// form is what PostgreSQL keeps of a password.
var form = regexp.MustCompile(`^SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$`)

// Is reports whether a text is a verifier.
func Is(text string) bool { return form.MatchString(text) }

// Salt is a verifier's salt, in base64; empty: the text is no verifier. PostgreSQL tells
// it to whoever begins to log in.
func Salt(verifier string) string {
	m := form.FindStringSubmatch(verifier)
	if m == nil {
		return ""
	}
	return m[2]
}

// Verifier makes a verifier of a password, another one each time. A password that is
// one already, brought along from elsewhere, is taken as it is.
func Verifier(password string) (string, error) {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // it never fails; it ends the program instead
	return salted(password, salt)
}

// VerifierFor makes the same verifier of a password for the same owner each time, so
// that a file with it in it stays the same.
func VerifierFor(owner, password string) (string, error) {
	sum := sha256.Sum256([]byte("pgctrl " + owner))
	return salted(password, sum[:saltLength])
}

func salted(password string, salt []byte) (string, error) {
	if Is(password) {
		return password, nil
	}
	return compute(password, salt, iterations)
}

func compute(password string, salt []byte, iterations int) (string, error) {
	key, err := pbkdf2.Key(sha256.New, normalized(password), salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("compute a SCRAM verifier: %w", err)
	}
	sign := func(text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s%d:%s$%s:%s", mark, iterations, text(salt), text(stored[:]), text(sign("Server Key"))), nil
}

// normalized is the password as clients hash it. One that can't be normalized is hashed
// byte by byte, as PostgreSQL does; so is one in ASCII, with whatever is in it.
func normalized(password string) string {
	if ascii := !strings.ContainsFunc(password, func(r rune) bool { return r > unicode.MaxASCII }); ascii {
		return password
	}
	p, ok := saslprep(password)
	if !ok {
		return password
	}
	return p
}

// Verifies reports whether what PostgreSQL keeps was made of the password.
func Verifies(kept, password string) bool {
	if Is(password) {
		return subtle.ConstantTimeCompare([]byte(kept), []byte(password)) == 1
	}
	m := form.FindStringSubmatch(kept)
	if m == nil {
		return false
	}
	n, err := strconv.Atoi(m[1])
	salt, err2 := base64.StdEncoding.DecodeString(m[2])
	if err != nil || err2 != nil || n > 100*iterations {
		return false
	}
	again, err := compute(password, salt, n)
	return err == nil && subtle.ConstantTimeCompare([]byte(again), []byte(kept)) == 1
}

// Without takes out of a message what looks like a verifier.
func Without(s string) string {
	for i := strings.Index(s, mark); i >= 0; i = strings.Index(s, mark) {
		end := i
		for end < len(s) && !strings.ContainsRune("' \"\n", rune(s[end])) {
			end++
		}
		s = s[:i] + "(verifier)" + s[end:]
	}
	return s
}
