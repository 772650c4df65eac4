package cli

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/pgctrl/pgctrl/pkg/store"
)

// connect reaches etcd. When every endpoint refuses the connection it says so at
// once: the client library would try again until the time is up, and somebody who
// typed a wrong port would wait for nothing.
func connect(ctx context.Context, o store.Options) (*store.Client, error) {
	if err := refusedByAll(ctx, o.Endpoints); err != nil {
		return nil, err
	}
	return store.Connect(ctx, o)
}

func refusedByAll(ctx context.Context, endpoints []string) error {
	errs := make([]error, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Port() == "" {
			return nil // whatever is wrong with it is for the library to say
		}
		wg.Go(func() {
			d := net.Dialer{Timeout: time.Second}
			c, err := d.DialContext(ctx, "tcp", u.Host)
			if err == nil {
				c.Close()
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for _, err := range errs {
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
	}
	return errs[0]
}
