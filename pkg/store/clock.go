package store

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ClockAhead is how far this host's clock is ahead of that of the etcd at an endpoint,
// negative when it is behind. etcd tells the time in whole seconds (the header Date of its
// HTTP answers), so the result is right to half a second and half the time of the way.
func ClockAhead(ctx context.Context, endpoint string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(endpoint, "/")+"/version", nil)
	if err != nil {
		return 0, fmt.Errorf("ask etcd for the time: %w", err)
	}
	asked := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask etcd for the time: %w", err)
	}
	_ = resp.Body.Close() // what it says is of no interest
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("ask etcd at %s for the time: %w", endpoint, err)
	}
	// Wall clocks are compared, so the monotonic reading goes.
	middle := asked.Round(0).Add(time.Since(asked) / 2)
	return middle.Sub(at.Add(500 * time.Millisecond)), nil
}
