package patroni

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// restAPI answers every connection with what it is given, as Patroni's server of
// Python's standard library does: HTTP/1.0, and the connection ends.
func restAPI(t *testing.T, answer string) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil || req.URL.Path != "/primary" || req.Method != http.MethodGet {
					t.Errorf("asked for %v, %v", req, err)
					return
				}
				_, _ = io.WriteString(c, answer)
				if answer == "" {
					_, _ = io.Copy(io.Discard, c) // says nothing until the other side has enough
				}
			}()
		}
	}()
	return &Client{URL: "http://" + l.Addr().String(), Timeout: time.Second}
}

func TestPrimary(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		leads        bool
		seen         int64
		fails        string
	}{
		{"leads", "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\nContent-Type: application/json\r\n\r\n" + `{"state": "running", "dcs_last_seen": 1700000000}`, true, 1700000000, ""},
		{"leads and does not say since when", "HTTP/1.0 200 OK\r\n\r\n{}", true, 0, ""},
		{"leads, in one piece of known length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", true, 0, ""},
		{"does not lead", "HTTP/1.0 503 Service Unavailable\r\n\r\n{}", false, 0, ""},
		{"something else listens", "HTTP/1.0 404 Not Found\r\n\r\nwhat?", false, 0, "404 Not Found: what?"},
		{"no HTTP", "SSH-2.0-OpenSSH\r\n", false, 0, "malformed"},
		{"cut off", "HTTP/1.0 200", false, 0, "EOF"},
	} {
		leads, seen, err := restAPI(t, c.answer).Primary(t.Context())
		switch {
		case c.fails == "" && err != nil, c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
			t.Errorf("%s: error %v, want %q", c.name, err, c.fails)
		case leads != c.leads, c.seen == 0 != seen.IsZero(), c.seen != 0 && seen.Unix() != c.seen:
			t.Errorf("%s: leads %v, seen %s", c.name, leads, seen)
		}
	}
}

func TestPrimaryOfASilentPatroni(t *testing.T) {
	c := restAPI(t, "")
	c.Timeout = 100 * time.Millisecond
	begun := time.Now()
	if _, _, err := c.Primary(t.Context()); err == nil || time.Since(begun) > 3*time.Second {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
	c.Timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, _, err := c.Primary(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 3*time.Second {
		t.Errorf("given up: %v after %s", err, time.Since(begun))
	}
	gone := Client{URL: "http://127.0.0.1:1"}
	if _, _, err := gone.Primary(t.Context()); err == nil {
		t.Error("nobody listens, and it leads")
	}
}
