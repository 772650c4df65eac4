package unit

import (
	"fmt"
	"sync"

	"github.com/pgctrl/pgctrl/internal/scram"
)

// verifiers makes SCRAM verifiers for files. A program that has only the password
// computes one at every login, which takes milliseconds: 120 logins a second kept a
// PgBouncer from answering for a second (measured).
type verifiers struct {
	mu   sync.Mutex
	made map[string]verifier // by owner: files are filled in again and again
}

type verifier struct{ secret, text string }

// of returns the verifier of a password, the same each time.
func (v *verifiers) of(owner, name string, secret []byte) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := owner + "/" + name
	if have, ok := v.made[key]; ok && have.secret == string(secret) {
		return have.text, nil
	}
	text, err := scram.VerifierFor(key, string(secret))
	if err != nil {
		return "", fmt.Errorf("make the verifier of secret %s: %w", name, err)
	}
	if v.made == nil {
		v.made = map[string]verifier{}
	}
	v.made[key] = verifier{string(secret), text}
	return text, nil
}
