package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// errNoSecret means that a secret a plan names is not there (yet).
var errNoSecret = errors.New("secret is absent")

// secret is a secret's bytes. Whatever formats it by accident, a log line
// included, gets a fixed word instead (R11).
type secret []byte

// String implements fmt.Stringer.
func (secret) String() string { return "(secret)" }

// GoString implements fmt.GoStringer, for %#v.
func (secret) GoString() string { return "(secret)" }

// MarshalJSON keeps it out of JSON, which is also how zap writes unknown types.
func (secret) MarshalJSON() ([]byte, error) { return []byte(`"(secret)"`), nil }

// getter is the one thing secrets need of etcd.
type getter interface {
	Get(ctx context.Context, key string) (kv.KV, bool, error)
}

// secrets reads one cluster's secrets on demand and holds them in memory, each
// with the revision it had. Nothing is ever written to disk from here.
type secrets struct {
	layout  keys.Layout
	cluster string

	mu    sync.Mutex
	known map[string]heldSecret
}

type heldSecret struct {
	rev   int64
	value secret
}

// ensure makes every secret that a plan names available to lookup, at the
// revision it names or a later one: rotation writes the secret first and the plan
// after it, so a later value is about to be named.
func (s *secrets) ensure(ctx context.Context, from getter, want map[string]int64) error {
	for name, rev := range want {
		s.mu.Lock()
		have, ok := s.known[name]
		s.mu.Unlock()
		if ok && have.rev >= rev {
			continue
		}
		s.forget(name) // an old password must not pass for the one the plan names
		if from == nil {
			return fmt.Errorf("read secret %s of %s: %w: etcd has not been reached since the agent started", name, s.cluster, errNoSecret)
		}
		e, found, err := from.Get(ctx, s.layout.Secret(s.cluster, name))
		switch {
		case err != nil:
			return fmt.Errorf("read secret %s of %s: %w", name, s.cluster, err)
		case !found || e.ModRevision < rev:
			return fmt.Errorf("read secret %s of %s: %w at revision %d or later", name, s.cluster, errNoSecret, rev)
		}
		s.mu.Lock()
		if s.known == nil {
			s.known = map[string]heldSecret{}
		}
		s.known[name] = heldSecret{rev: e.ModRevision, value: secret(e.Value)}
		s.mu.Unlock()
	}
	return nil
}

func (s *secrets) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, name)
}

// lookup answers from memory; it is what drivers expand placeholders with.
func (s *secrets) lookup(name string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.known[name]
	return have.value, ok
}
