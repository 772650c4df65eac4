package unit

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
)

// verifierRounds is PostgreSQL's own number.
const verifierRounds = 4096

// verifiers makes SCRAM verifiers as PostgreSQL stores them. A program that has only
// the password computes one at every login, which takes milliseconds: 120 logins a
// second kept a PgBouncer from answering for a second (measured).
type verifiers struct {
	mu   sync.Mutex
	made map[string]verifier // by name: files are filled in again and again
}

type verifier struct{ secret, text string }

// of returns the verifier of a password. The salt comes from whose it is, so that the
// same password makes the same file. A password that is not plain ASCII is left as it
// is: normalising it is PgBouncer's and PostgreSQL's business, and they take that too.
func (v *verifiers) of(owner, name string, secret []byte) (string, error) {
	if strings.IndexFunc(string(secret), func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		return string(secret), nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	key := owner + "/" + name
	if have, ok := v.made[key]; ok && have.secret == string(secret) {
		return have.text, nil
	}
	sum := sha256.Sum256([]byte("pgctrl " + key))
	salt := sum[:16]
	salted, err := pbkdf2.Key(sha256.New, string(secret), salt, verifierRounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("make the verifier of secret %s: %w", name, err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", verifierRounds, b64(salt), b64(stored[:]), b64(mac(salted, "Server Key")))
	if v.made == nil {
		v.made = map[string]verifier{}
	}
	v.made[key] = verifier{string(secret), text}
	return text, nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
