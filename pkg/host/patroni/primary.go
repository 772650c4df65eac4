package patroni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Primary asks GET /primary: does this Patroni hold the leader lock of a cluster that
// takes writes? 503 is a no, anything else an error. The answer says nothing about
// PostgreSQL. seen is when Patroni last reached etcd, by the host's wall clock; zero
// when it does not say (before 2.1.3).
func (c *Client) Primary(ctx context.Context) (leads bool, seen time.Time, err error) {
	code, body, err := c.getOnce(ctx, "/primary")
	switch {
	case err != nil:
		return false, time.Time{}, err
	case code == http.StatusServiceUnavailable:
		return false, time.Time{}, nil
	case code != http.StatusOK:
		return false, time.Time{}, fmt.Errorf("GET %s/primary: %w", c.URL, &StatusError{Code: code, Body: string(bytes.TrimSpace(body))})
	}
	var s struct {
		Seen int64 `json:"dcs_last_seen"`
	}
	if json.Unmarshal(body, &s) == nil && s.Seen > 0 {
		seen = time.Unix(s.Seen, 0)
	}
	return true, seen, nil
}
