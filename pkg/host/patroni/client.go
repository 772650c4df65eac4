package patroni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/patroni"
)

// DefaultTimeout bounds one request. Patroni answers GET in milliseconds; PATCH
// goes to etcd and back.
const DefaultTimeout = 2 * time.Second

// Client talks to one Patroni.
type Client struct {
	// URL is its base, as in http://10.0.0.1:8008.
	URL string
	// User and Password are for requests that change something.
	User, Password string
	// Timeout bounds one request; DefaultTimeout when zero.
	Timeout time.Duration
	// HTTP is the transport; http.DefaultClient when nil.
	HTTP *http.Client
}

// StatusError is an answer that is no success, with Patroni's own words.
type StatusError struct {
	Code int
	Body string
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Code, http.StatusText(e.Code), e.Body)
}

// Answered reports whether err is an answer with one of the given codes.
func Answered(err error, codes ...int) bool {
	var s *StatusError
	if !errors.As(err, &s) {
		return false
	}
	for _, c := range codes {
		if s.Code == c {
			return true
		}
	}
	return false
}

// Answer is what GET /patroni said.
type Answer struct {
	patroni.Status
	Tags   map[string]any
	Header http.Header
}

// Status asks GET /patroni, which any member answers whatever its role.
func (c *Client) Status(ctx context.Context) (Answer, error) {
	var a Answer
	body, header, err := c.do(ctx, http.MethodGet, "/patroni", nil)
	if err != nil {
		// Older versions answer 503 with the same body while PostgreSQL is down.
		var se *StatusError
		if !errors.As(err, &se) || !json.Valid([]byte(se.Body)) {
			return a, err
		}
		body = []byte(se.Body)
	}
	if a.Status, err = patroni.ParseStatus(body); err != nil {
		return a, err
	}
	var tags struct {
		Tags map[string]any `json:"tags"`
	}
	if err := decode(body, &tags); err != nil {
		return a, fmt.Errorf("parse answer of GET /patroni: %w", err)
	}
	a.Tags, a.Header = tags.Tags, header
	return a, nil
}

// Config reads the dynamic configuration. Numbers are json.Number.
func (c *Client) Config(ctx context.Context) (map[string]any, error) {
	body, _, err := c.do(ctx, http.MethodGet, "/config", nil)
	if err != nil {
		return nil, err
	}
	return parseConfig(body)
}

// PatchConfig merges into the dynamic configuration and returns what came of it.
func (c *Client) PatchConfig(ctx context.Context, patch map[string]any) (map[string]any, error) {
	body, _, err := c.do(ctx, http.MethodPatch, "/config", patch)
	if err != nil {
		return nil, err
	}
	return parseConfig(body)
}

func parseConfig(body []byte) (map[string]any, error) {
	var m map[string]any
	if err := decode(body, &m); err != nil {
		return nil, fmt.Errorf("parse Patroni's dynamic configuration: %w", err)
	}
	return m, nil
}

// Reload asks Patroni to read its file again, at the latest loop_wait later.
func (c *Client) Reload(ctx context.Context) error {
	_, _, err := c.do(ctx, http.MethodPost, "/reload", nil)
	return err
}

// RestartTimeout bounds a restart: the shutdown writes a checkpoint, and the start may
// replay WAL.
const RestartTimeout = 10 * time.Minute

// Restart restarts PostgreSQL and returns when it is up again. pending: only if a
// value waits for it; false says that none did.
func (c *Client) Restart(ctx context.Context, pending bool) (did bool, err error) {
	long := *c
	long.Timeout = RestartTimeout
	body := map[string]any{}
	if pending {
		body["restart_pending"] = true
	}
	_, _, err = long.do(ctx, http.MethodPost, "/restart", body)
	var s *StatusError
	if pending && errors.As(err, &s) && strings.Contains(s.Body, "restart conditions are not satisfied") {
		return false, nil
	}
	return err == nil, err
}

// Reinitialize has the member's data removed and copied from the leader again; it
// returns when Patroni has begun. Patroni refuses when the member leads, and with a BusyError
// while it does something else.
func (c *Client) Reinitialize(ctx context.Context) error {
	_, _, err := c.do(ctx, http.MethodPost, "/reinitialize", map[string]any{})
	var s *StatusError
	if errors.As(err, &s) {
		if doing, busy := strings.CutSuffix(s.Body, " already in progress"); busy {
			return &BusyError{Doing: doing}
		}
	}
	return err
}

// BusyError is Patroni's answer that it does something else; it does one thing at a time.
type BusyError struct{ Doing string }

// Error implements error.
func (e *BusyError) Error() string { return "busy with " + e.Doing }

// wakeKey is set by nobody.
const wakeKey = "pgctrl_wake"

// Wake makes Patroni's main loop run now: a PATCH that removes a key which is not
// there changes and writes nothing, and ends with waking the loop (3.0 to 4.1).
func (c *Client) Wake(ctx context.Context) error {
	_, _, err := c.do(ctx, http.MethodPatch, "/config", map[string]any{wakeKey: nil})
	return err
}

func (c *Client) do(ctx context.Context, method, path string, body any) ([]byte, http.Header, error) {
	fail := func(err error) ([]byte, http.Header, error) {
		return nil, nil, fmt.Errorf("%s %s%s: %w", method, c.URL, path, err)
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fail(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, r)
	if err != nil {
		return fail(err)
	}
	if method != http.MethodGet && c.User != "" {
		req.SetBasicAuth(c.User, c.Password)
	}
	h := c.HTTP
	if h == nil {
		h = http.DefaultClient
	}
	resp, err := h.Do(req)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode >= 300 {
		return nil, nil, fmt.Errorf("%s %s%s: %w", method, c.URL, path, &StatusError{Code: resp.StatusCode, Body: string(bytes.TrimSpace(out))})
	}
	return out, resp.Header, nil
}

// decode reads JSON and keeps numbers as they are written.
func decode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(into)
}
