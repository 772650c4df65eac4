package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// ErrTooOld means that a newer program has written to this store: what it wrote
// may mean what this one can't know, so this one does not control.
var ErrTooOld = errors.New("a newer pgctrl has written to this etcd")

// introduce makes sure the store has an identity, knows by which URLs hosts reach
// it, and knows the newest program that wrote to it.
func (s *server) introduce(ctx context.Context, c *store.Client) error {
	// Also when a newer program was here: a restart would not help, an upgrade will,
	// and until then /readyz says so.
	return s.retry(ctx, "introduce this server to the store", func() error { return s.introduceOnce(ctx, c) })
}

func (s *server) introduceOnce(ctx context.Context, c *store.Client) error {
	advertised, err := c.Endpoints(ctx)
	if err != nil {
		return err
	}
	key := s.Layout.StoreKey()
	e, exists, err := c.Get(ctx, key)
	if err != nil {
		return err
	}
	var is observed.Store
	if exists {
		if is, err = observed.Decode[observed.Store](e); err != nil {
			return backoff.Permanent(err)
		}
	} else {
		is.Incarnation = store.NewIncarnation()
	}
	was := is
	if is.Endpoints = reachable(advertised, s.Endpoints); len(is.Endpoints) == 0 {
		is.Endpoints = was.Endpoints
	}
	switch {
	case version.Older(version.String(), is.Newest):
		return fmt.Errorf("%w: it is %s, this is %s; upgrade this server", ErrTooOld, is.Newest, version.String())
	case is.Newest == "" || version.Older(is.Newest, version.String()):
		is.Newest = version.String()
	}
	if exists && is.Newest == was.Newest && slices.Equal(is.Endpoints, was.Endpoints) {
		return nil
	}
	if _, err := c.Commit(ctx, []store.Guard{store.ModIs(key, e.ModRevision)}, []store.Op{store.Put(key, observed.Encode(is))}); err != nil {
		return err // a conflict is another server's doing the same: look again
	}
	s.Log.Info("store identified", zap.String("incarnation", is.Incarnation), zap.Strings("endpoints", is.Endpoints), zap.String("newest", is.Newest))
	return nil
}

// reachable picks the URLs that hosts are told: what etcd's members advertise, less
// what means "this very host". An etcd that advertises nothing else was set up for
// one host, and is known elsewhere only by the URLs this server was given.
func reachable(advertised, configured []string) []string {
	for _, urls := range [][]string{advertised, configured} {
		if out := slices.DeleteFunc(slices.Clone(urls), loopback); len(out) > 0 {
			return out
		}
	}
	return advertised
}

func loopback(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}
