package server

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// controlling is what the HTTP answers need to know of the engine.
type controlling interface {
	// Ready reports whether its view of etcd is complete and fresh; nil means yes.
	Ready() error
	// Healthy reports whether it works at all.
	Healthy() error
}

// state is what the server is about, for people and probes.
type state struct {
	mu     sync.Mutex
	engine controlling
	why    string
}

func (s *state) set(e controlling, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engine, s.why = e, why
}

func (s *state) get() (controlling, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.engine, s.why
}

// handler answers /metrics, /healthz (the process works: restart it when not) and
// /readyz (it controls, or would at once if it became leader).
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		e, _ := s.state.get()
		if e != nil {
			answer(w, e.Healthy())
			return
		}
		answer(w, nil) // waiting for etcd is healthy
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		e, why := s.state.get()
		switch {
		case e != nil:
			answer(w, e.Ready())
		case why != "":
			answer(w, fmt.Errorf("%s", why))
		default:
			answer(w, fmt.Errorf("starting"))
		}
	})
	return mux
}

// metrics answers with the process's metrics and those of the controllers.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	all := prometheus.Gatherers{s.registry}
	if e := s.engine.Load(); e != nil {
		all = append(all, e)
	}
	promhttp.HandlerFor(all, promhttp.HandlerOpts{Registry: s.registry, ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(w, r)
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}
