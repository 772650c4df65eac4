package patroni

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

// What Patroni 3.0 and 4.0 answer while they do something else, and when they can't ever.
func TestReinitializeOfABusyPatroni(t *testing.T) {
	for answer, busy := range map[string]string{
		"restarting after failure already in progress": "restarting after failure",
		"reinitialize already in progress":             "reinitialize",
		"I am the leader, can not reinitialize":        "",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.URL.Path != "/reinitialize" {
				t.Errorf("asked for %s %s", r.Method, r.URL)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(answer))
		}))
		err := (&Client{URL: s.URL}).Reinitialize(t.Context())
		s.Close()
		b, is := errors.AsType[*BusyError](err)
		if err == nil || is != (busy != "") || is && b.Doing != busy {
			t.Errorf("%q: %v", answer, err)
		}
	}
}
