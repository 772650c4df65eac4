package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
)

// sender makes one attempt.
type sender interface {
	send(ctx context.Context, e events.Event, body, secret []byte) *failed
	close()
}

// failed is why an attempt failed, and how long the receiver wants to be left alone.
type failed struct {
	text  string
	after time.Duration
}

// Error implements error.
func (f *failed) Error() string { return f.text }

// Numbers of a webhook.
const (
	// maxAnswer is what is read of an answer; nothing of it but an error's beginning matters.
	maxAnswer = 64 << 10
	maxQuoted = 200
	dialTime  = 10 * time.Second
	idleTime  = 90 * time.Second
)

// webhook posts events to one receiver.
type webhook struct {
	hook    *desired.Hook
	version string
	client  *http.Client // nil until the first attempt, and when its authorities may have changed
}

func newWebhook(h *desired.Hook, version string) *webhook { return &webhook{hook: h, version: version} }

func (w *webhook) close() {
	if w.client != nil {
		w.client.CloseIdleConnections()
		w.client = nil
	}
}

// connect makes the client: no proxy of the environment, no redirects, one receiver.
func (w *webhook) connect() error {
	if w.client != nil {
		return nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := w.hook.Webhook.CAFile; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read webhook.ca_file: %w", err)
		}
		if conf.RootCAs = x509.NewCertPool(); !conf.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("read webhook.ca_file: no certificate in %s", file)
		}
	}
	w.client = &http.Client{
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: dialTime}).DialContext, TLSClientConfig: conf, ForceAttemptHTTP2: true,
			MaxIdleConns: 1, IdleConnTimeout: idleTime, DisableCompression: true, MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

// send implements sender.
func (w *webhook) send(ctx context.Context, e events.Event, body, secret []byte) *failed {
	secret = bytes.TrimSpace(secret)
	resp, answer, f := w.post(ctx, hooks.Headers(w.hook.Name, w.version, e, time.Now(), body, secret), body, secret)
	if f == nil {
		f = w.judge(resp, answer)
	}
	if f != nil {
		f.text = w.hider(secret)(f.text)
	}
	return f
}

// post makes one request and reads the beginning of the answer.
func (w *webhook) post(ctx context.Context, headers map[string]string, body, secret []byte) (*http.Response, []byte, *failed) {
	hide := w.hider(secret)
	if err := w.connect(); err != nil {
		return nil, nil, &failed{text: hide(err.Error())}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.hook.Webhook.URL, bytes.NewReader(body))
	if err != nil {
		return nil, nil, &failed{text: "webhook.url is no address to post to"} // the error would repeat it
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		if w.hook.Webhook.CAFile != "" {
			w.close() // the file may have another authority by now
		}
		return nil, nil, &failed{text: hide(w.words(ctx, err))}
	}
	defer func() { _ = resp.Body.Close() }()                        // what it still has to say does not matter
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1)) // an answer cut short is one all the same
	return resp, []byte(hide(string(answer))), nil
}

// judge says what an answer means: nil for one that took the event.
func (w *webhook) judge(resp *http.Response, answer []byte) *failed {
	status := resp.StatusCode
	f := &failed{text: fmt.Sprintf("the receiver answers %d %s", status, http.StatusText(status))}
	switch {
	case status >= 200 && status < 300:
		return nil
	case status >= 300 && status < 400:
		f.text = fmt.Sprintf("the receiver answers %d and leads to %s; redirects are not followed, so put the right address into webhook.url",
			status, place(resp.Header.Get("Location")))
		return f
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
			f.after = min(hooks.MostRetryAfter, time.Duration(min(n, 3600))*time.Second)
		}
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		f.text += ", so it does not want what it gets"
	}
	if said := quoted(answer); said != "" {
		f.text += ": " + said
	}
	return f
}

// words says why there was no answer, without the address: its query may be a secret.
func (w *webhook) words(ctx context.Context, err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", w.hook.Timeout)
	}
	return err.Error()
}

// leastToken is how long a part of an address has to be to be taken for a token; shorter ones are
// words such as hook.
const leastToken = 8

// hider takes out of a text what nobody may read: receivers repeat what they were sent. Much of what
// takes webhooks knows who comes by a token in the path.
func (w *webhook) hider(secret []byte) func(string) string {
	u, err := url.Parse(w.hook.Webhook.URL)
	var parts []string
	if err == nil {
		for _, path := range []string{u.EscapedPath(), u.Path} {
			for part := range strings.SplitSeq(path, "/") {
				if len(part) >= leastToken {
					parts = append(parts, part)
				}
			}
		}
	}
	return func(s string) string {
		if len(secret) > 0 {
			s = strings.ReplaceAll(s, string(secret), "(secret)")
		}
		for _, part := range parts {
			s = strings.ReplaceAll(s, part, "(path)")
		}
		if err == nil && u.RawQuery != "" {
			s = strings.ReplaceAll(s, u.RawQuery, "(query)")
			for _, values := range u.Query() {
				for _, v := range values {
					if len(v) > 3 {
						s = strings.ReplaceAll(s, v, "(query)")
					}
				}
			}
		}
		return s
	}
}

// place is where a redirect leads: its host, since the rest may be a secret.
func place(location string) string {
	u, err := url.Parse(location)
	if err != nil || location == "" {
		return "nowhere"
	}
	if u.Host == "" {
		return "another path of the same host"
	}
	return quoted([]byte(u.Scheme + "://" + u.Host))
}

// quoted is the beginning of a text, on one line.
func quoted(b []byte) string {
	s := strings.ToValidUTF8(string(b[:min(len(b), maxQuoted)]), "")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}
