package delivery_test

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/delivery"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// quiet is a server over TLS whose log is of refused handshakes, which the tests want.
func quiet(t *testing.T) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// What a receiver does wrong, and how that is said: never with the secret, nor with what the
// address has behind its question mark.
func TestBadReceivers(t *testing.T) {
	w := newWorld(t)
	elsewhere := newReceiver(t, nil)
	secure := quiet(t)
	garbage := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(garbage, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	says := func(status int, text string) string {
		return newReceiver(t, func(_ int, out http.ResponseWriter, _ *http.Request) { http.Error(out, text, status) }).URL
	}
	cases := map[string]struct{ text, want string }{
		"redirect": {document(newReceiver(t, func(_ int, out http.ResponseWriter, r *http.Request) {
			http.Redirect(out, r, elsewhere.URL+"/there?token=hidden", http.StatusTemporaryRedirect)
		}).URL), "the receiver answers 307 and leads to " + elsewhere.URL + "; redirects are not followed, so put the right address into webhook.url"},
		"unknown-authority": {document(secure.URL), "tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		"no-ca":             {"events: ['*']\nwebhook: {url: " + secure.URL + ", ca_file: /nowhere/ca.crt}", "read webhook.ca_file: open /nowhere/ca.crt: no such file or directory"},
		"bad-ca":            {"events: ['*']\nwebhook: {url: " + secure.URL + ", ca_file: " + garbage + "}", "read webhook.ca_file: no certificate in " + garbage},
		"hangs": {document(newReceiver(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }).URL, "timeout: 100ms"),
			"no answer within 100ms"},
		"echoes": {document(says(http.StatusTeapot, "you sent sesame and\n\x00 sekret-query, "+strings.Repeat("x", 500)) + "?key=sekret-query"),
			"the receiver answers 418 I'm a teapot, so it does not want what it gets: you sent (secret) and (query), " + strings.Repeat("x", 167)},
		"repeats": {document(says(http.StatusNotFound, "Cannot POST /services/T0KENT0KEN/hook") + "/services/T0KENT0KEN/hook"),
			"the receiver answers 404 Not Found, so it does not want what it gets: Cannot POST /(path)/(path)/hook"},
		"broken":       {document(says(http.StatusBadGateway, "")), "the receiver answers 502 Bad Gateway"},
		"no-such-host": {document("http://receiver.invalid/?key=sekret-query"), "dial tcp: lookup receiver.invalid"},
		"no-http":      {document("https" + strings.TrimPrefix(elsewhere.URL, "http")), "http: server gave HTTP response to HTTPS client"},
	}
	for name, tc := range cases {
		w.put(map[string][]byte{
			l.ClusterDoc("c", "hooks/"+name): []byte(tc.text + "\nretry_for: 0s"), l.Secret("c", keys.HookSecret(name)): []byte("sesame"),
		})
	}
	w.lead()
	w.happen(1, 1)
	for name, tc := range cases {
		until(t, name+" is given up", func() bool { return w.state(name).Dead == 1 })
		if got := w.dead(name)[0].Error; got != tc.want && !(strings.HasPrefix(got, tc.want) && name == "no-such-host") {
			t.Errorf("%s\ngot:  %s\nwant: %s", name, got, tc.want)
		}
	}
	if len(elsewhere.ids()) > 0 {
		t.Error("a redirect was followed")
	}
}

// An answer of any size is an answer, and so is one over TLS with an authority of its own.
func TestGoodReceivers(t *testing.T) {
	w := newWorld(t)
	secure := quiet(t)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	large := newReceiver(t, func(_ int, out http.ResponseWriter, _ *http.Request) {
		_, _ = out.Write(make([]byte, 1<<20)) // nobody reads all of it
	})
	w.hook("large", document(large.URL))
	w.hook("tls", "events: ['*']\nwebhook: {url: "+secure.URL+", ca_file: "+ca+"}")
	w.lead()
	w.happen(3, 3)
	for _, name := range []string{"large", "tls"} {
		until(t, name+" has them", func() bool { return w.state(name).Delivered == 3 })
	}
}

// A receiver that fails gets the same event again, with the number of the attempt, when it said
// that it wants it or sooner; then it is well again.
func TestTryingAgain(t *testing.T) {
	waits := make(chan int, 10)
	w := newWorld(t, func(o *delivery.Options) {
		o.Wait = func(attempt int) time.Duration {
			waits <- attempt
			return time.Millisecond
		}
	})
	r := newReceiver(t, func(n int, out http.ResponseWriter, _ *http.Request) {
		switch n {
		case 1:
			out.WriteHeader(http.StatusInternalServerError)
		case 2:
			out.Header().Set("Retry-After", "1")
			out.WriteHeader(http.StatusTooManyRequests)
		}
	})
	w.hook("a", document(r.URL))
	w.lead()
	began := time.Now()
	w.happen(1, 1)
	until(t, "it is delivered", func() bool { return w.state("a").Delivered == 1 })
	if took := time.Since(began); took < time.Second {
		t.Errorf("it was tried again after %s, before the receiver wanted it", took)
	}
	if <-waits != 1 || <-waits != 2 {
		t.Error("attempts are not counted")
	}
	if s := w.state("a"); s.FailingSince != nil || s.Error != "" || s.Attempt != 0 || s.NextTry != nil {
		t.Errorf("it is well again, and its state says %+v", s)
	}
	if r.mu.Lock(); !strings.Contains(string(r.bodies[0]), `"attempt":3`) {
		t.Errorf("body %s", r.bodies[0])
	}
	r.mu.Unlock()
}

// Hooks that set off one another are noticed, and what they caused is not delivered.
func TestLoops(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t, nil)
	w.hook("a", document(r.URL))
	w.lead()
	w.happen(1, 1, func(e *events.Event) { e.Hops = 4 })
	until(t, "the loop is told", func() bool { return w.state("a").Reason == hooks.Loop })
	if len(r.ids()) > 0 {
		t.Error("it was delivered")
	}
	w.happen(1, 1)
	until(t, "it is over", func() bool { return w.state("a").Reason == "" && len(r.ids()) == 1 })
}
