package postgres

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

	"golang.org/x/text/secure/precis"
)

// scramIterations is PostgreSQL's own number. Its clients compute as many for every
// login, so more would cost every connection.
const scramIterations = 4096

// verifierForm is what PostgreSQL keeps of a password.
var verifierForm = regexp.MustCompile(`^SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$`)

// verifier is what is sent instead of the password: PostgreSQL can tell by it who
// knows the password, and nobody can log in with it. A secret that is one already,
// brought along from elsewhere, is taken as it is.
func verifier(password string) (string, error) {
	if verifierForm.MatchString(password) {
		return password, nil
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails; it ends the program instead
	return verifierWith(password, salt, scramIterations)
}

func verifierWith(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, normalized(password), salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("compute a SCRAM verifier: %w", err)
	}
	sign := func(text string) []byte {
		m := hmac.New(sha256.New, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, text(salt), text(stored[:]), text(sign("Server Key"))), nil
}

// normalized is the password as clients hash it. One that can't be normalized is hashed
// byte by byte, as PostgreSQL does.
func normalized(password string) string {
	p, err := precis.OpaqueString.String(password)
	if err != nil {
		return password
	}
	return p
}

// verifies reports whether what PostgreSQL keeps was made of the password.
func verifies(kept, password string) bool {
	if verifierForm.MatchString(password) {
		return subtle.ConstantTimeCompare([]byte(kept), []byte(password)) == 1
	}
	m := verifierForm.FindStringSubmatch(kept)
	if m == nil {
		return false
	}
	iterations, err := strconv.Atoi(m[1])
	salt, err2 := base64.StdEncoding.DecodeString(m[2])
	if err != nil || err2 != nil || iterations > 100*scramIterations {
		return false
	}
	again, err := verifierWith(password, salt, iterations)
	return err == nil && subtle.ConstantTimeCompare([]byte(again), []byte(kept)) == 1
}

// withoutVerifiers takes out of a message what looks like one.
func withoutVerifiers(s string) string {
	for i := strings.Index(s, "SCRAM-SHA-256$"); i >= 0; i = strings.Index(s, "SCRAM-SHA-256$") {
		end := i
		for end < len(s) && !strings.ContainsRune("' \"\n", rune(s[end])) {
			end++
		}
		s = s[:i] + "(verifier)" + s[end:]
	}
	return s
}
