// Package patronitest has a Patroni whose REST API behaves like 3.0.2's as far as
// pgctrl uses it, for tests.
package patronitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// Server is the fake. The zero behaviours are those of a healthy primary.
type Server struct {
	*httptest.Server
	// User and Password guard everything that changes something.
	User, Password string

	mu      sync.Mutex
	status  map[string]any
	config  map[string]any
	headers map[string]string
	leader  bool
	refuse  int
	patches []map[string]any
	reloads int
	wakes   int
	// OnReload is called by POST /reload and stands for Patroni reading its file;
	// it may use the Set functions. Set it before the first request.
	OnReload func(*Server)
}

// New starts a fake member; close it with Close. Its dynamic configuration is
// Patroni's default.
func New(scope, name string) *Server {
	s := &Server{User: "patroni", Password: "secret", leader: true, headers: map[string]string{},
		config: map[string]any{"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 1048576},
		status: map[string]any{
			"state": "running", "role": "master", "server_version": 150018, "timeline": 1,
			"database_system_identifier": "7301234567890123456",
			"patroni":                    map[string]any{"version": "3.0.2", "scope": scope, "name": name},
		}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Addr is where it listens, as restapi.listen has it.
func (s *Server) Addr() string { return strings.TrimPrefix(s.URL, "http://") }

// SetStatus changes fields of GET /patroni; nil removes one.
func (s *Server) SetStatus(fields map[string]any) { s.set(func() { update(s.status, fields) }) }

// SetConfig replaces the dynamic configuration.
func (s *Server) SetConfig(config map[string]any) { s.set(func() { s.config = clone(config) }) }

// SetHeader adds a header to every answer.
func (s *Server) SetHeader(name, value string) { s.set(func() { s.headers[name] = value }) }

// SetLeader says what /primary and its relatives answer: 200, or 503.
func (s *Server) SetLeader(yes bool) { s.set(func() { s.leader = yes }) }

// Refuse makes every PATCH answer with this code; 0 ends it.
func (s *Server) Refuse(code int) { s.set(func() { s.refuse = code }) }

// Config is the dynamic configuration now.
func (s *Server) Config() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clone(s.config)
}

// Patches lists the bodies of all PATCHes that changed something.
func (s *Server) Patches() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]map[string]any(nil), s.patches...)
}

// Counts says how often it was asked to reload, and woken by a PATCH that changed
// nothing.
func (s *Server) Counts() (reloads, wakes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloads, s.wakes
}

func (s *Server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.set(func() {
		for k, v := range s.headers {
			w.Header().Set(k, v)
		}
	})
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions {
		if user, password, _ := r.BasicAuth(); user != s.User || password != s.Password {
			http.Error(w, "no auth", http.StatusUnauthorized)
			return
		}
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /patroni":
		s.json(w, http.StatusOK, func() any { return s.status })
	case "GET /config":
		s.json(w, http.StatusOK, func() any { return s.config })
	case "PATCH /config":
		s.patch(w, r)
	case "POST /reload":
		s.set(func() { s.reloads++ })
		if s.OnReload != nil {
			s.OnReload(s)
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, "reload scheduled")
	default:
		s.check(w, r)
	}
}

func (s *Server) patch(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body) == 0 {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != 0 {
		w.WriteHeader(s.refuse)
		return
	}
	if update(s.config, body) {
		s.patches = append(s.patches, body)
	} else {
		s.wakes++
	}
	_ = json.NewEncoder(w).Encode(s.config)
}

// check answers the health checks.
func (s *Server) check(w http.ResponseWriter, r *http.Request) {
	code := http.StatusNotFound
	s.set(func() {
		switch r.URL.Path {
		case "/", "/primary", "/master", "/leader", "/read-write":
			code = status(s.leader)
		case "/replica":
			code = status(!s.leader)
		case "/read-only", "/health", "/liveness":
			code = http.StatusOK
		}
	})
	w.WriteHeader(code)
}

func status(yes bool) int {
	if yes {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

func (s *Server) json(w http.ResponseWriter, code int, what func() any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(what())
}

// update is Patroni's patch_config: it says whether anything changed.
func update(config, patch map[string]any) (changed bool) {
	for k, v := range patch {
		have, exists := config[k]
		sub, isMap := v.(map[string]any)
		haveSub, haveMap := have.(map[string]any)
		switch {
		case v == nil:
			changed = changed || exists && have != nil
			delete(config, k)
		case exists && isMap && haveMap:
			changed = update(haveSub, sub) || changed
		case !exists || fmt.Sprint(have) != fmt.Sprint(v):
			config[k], changed = v, true
		}
	}
	return changed
}

func clone(m map[string]any) map[string]any {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}
