package patroni

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// mostStatus bounds an answer of GET /primary; Patroni's has some hundred bytes.
const mostStatus = 64 << 10

// getOnce is a GET over a connection of its own, without the library's pool of
// connections: Patroni closes each after its answer, so the pool only costs what it
// takes to run, and the leader's agent asks every second.
func (c *Client) getOnce(ctx context.Context, path string) (code int, body []byte, err error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return 0, nil, fmt.Errorf("GET %s%s: %w", c.URL, path, err)
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	code, body, err = get(ctx, u.Host, path)
	if err != nil {
		return 0, nil, fmt.Errorf("GET %s%s: %w", c.URL, path, err)
	}
	return code, body, nil
}

func get(ctx context.Context, host, path string) (code int, body []byte, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, mostStatus))
	return resp.StatusCode, body, err
}
