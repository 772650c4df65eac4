package engine

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/internal/pki"
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// mint makes a secret; nil: the authority that it takes is not there yet. The
// authority's write wakes the controller, which asks again.
func (t *term) mint(ctx context.Context, c *controller, k Key, o controllers.Output) ([]byte, error) {
	r := o.Recipe
	switch r.Kind {
	case controllers.Password:
		return password(), nil
	case controllers.Authority:
		return pki.NewAuthority(r.Name, time.Now())
	case controllers.Peer:
		return pki.Peer(r.Name, r.Names, time.Now())
	}
	// Whoever could name any key here could have it copied to where it may be read.
	if f, err := declaredOutput(c, k, controllers.Output{Key: r.From, Mode: controllers.Mint}); err != nil || f.name != keys.Authorities {
		return nil, fmt.Errorf("%w: %s is made from %q, which is no authority of the controller's", ErrOutput, o.Key, r.From)
	}
	authority, exists, err := t.e.o.Client.Get(ctx, r.From)
	if err != nil || !exists {
		return nil, err
	}
	switch r.Kind {
	case controllers.AuthorityCertificate:
		return pki.AuthorityCertificate(authority.Value)
	case controllers.Certificate:
		return pki.Issue(authority.Value, r.Name, r.Names, time.Now())
	}
	return nil, fmt.Errorf("%w: %s is to be of kind %d, which nobody knows", ErrOutput, o.Key, r.Kind)
}

// password is a new one: 256 bits, and no character that any file format quotes.
func password() []byte {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it never fails; it ends the program instead
	return []byte(base64.RawURLEncoding.EncodeToString(b[:]))
}
