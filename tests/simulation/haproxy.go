package simulation

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// HAProxy's checks as the plans configure them.
const (
	inter     = 2 * time.Second
	fastInter = time.Second
	downInter = time.Second
	rise      = 2
	fall      = 3
	fullHP    = rise + fall - 1
)

// proxy is one host's HAProxy: its servers, their checks, the state file.
type proxy struct {
	h       *host
	running bool
	gen     int // of the worker
	unit    plan.Unit
	servers map[string]*backendServer // "backend/server"
	file    map[string]bool           // the state file: who starts up
}

type backendServer struct {
	backend, name string
	primary       bool // its role: it is checked on /primary
	readWrite     bool // of a service that clients write through
	up            bool
	health        int
	passed        bool // the last check
	silent        bool // it got no answer
}

func newProxy(h *host) *proxy {
	return &proxy{h: h, servers: map[string]*backendServer{}, file: map[string]bool{}}
}

// start runs a new worker from the state file. The caller holds mu.
func (x *proxy) start(u plan.Unit, why string) {
	x.gen++
	x.running, x.unit = true, u
	old := x.servers
	x.servers = map[string]*backendServer{}
	for _, backend := range slices.Sorted(maps.Keys(u.Routes)) {
		r := u.Routes[backend]
		for _, s := range r.Servers {
			up, known := x.file[backend+"/"+s.Name]
			srv := &backendServer{backend: backend, name: s.Name, up: up || !known, primary: r.Role == plan.RoutePrimary}
			srv.readWrite = srv.primary && (backend == "primary" || backend == "default")
			if srv.up {
				srv.health = fullHP
			}
			x.servers[backend+"/"+s.Name] = srv
			x.schedule(srv, time.Duration(float64(inter)*x.h.w.chance("check", x.h.node, srv.backend, srv.name, x.gen)))
		}
	}
	x.h.w.say(x.h.node, "HAProxy loads its configuration (%s)", why)
	for _, name := range x.names() {
		s := x.servers[name]
		if o := old[name]; s.readWrite && (o == nil || o.up != s.up) {
			x.tell(s, "state file")
		}
	}
	x.h.w.check.step()
}

func (x *proxy) names() []string { return slices.Sorted(maps.Keys(x.servers)) }

func (x *proxy) tell(s *backendServer, why string) {
	word := "down"
	if s.up {
		word = "up"
	}
	x.h.w.say(x.h.node, "%s/%s %s (%s)", s.backend, s.name, word, why)
}

// set changes a server's state.
func (x *proxy) set(s *backendServer, up bool, why string) {
	s.health = 0
	if up {
		s.health = fullHP
	}
	if s.up == up {
		return
	}
	s.up = up
	if s.readWrite {
		x.tell(s, why)
	}
	x.h.w.check.step()
}

// schedule makes the next check of a server.
func (x *proxy) schedule(s *backendServer, d time.Duration) {
	gen := x.gen
	x.h.w.after(d, "check "+x.h.node+" "+s.backend+" "+s.name, func() {
		if x.running && x.gen == gen {
			x.checkNow(s)
		}
	})
}

func (x *proxy) checkNow(s *backendServer) {
	o := x.h.w.member(s.name)
	ok, answered := false, false
	if o != nil && x.h.reaches(o) {
		path := "/replica"
		if s.primary {
			path = "/primary"
		}
		ok, answered = o.pat.says(path)
	}
	if !answered {
		gen := x.gen // nobody answers: the check fails when its time is over
		x.h.w.after(inter, "check timeout "+x.h.node+" "+s.backend+" "+s.name, func() {
			if x.running && x.gen == gen {
				x.result(s, false, true)
			}
		})
		return
	}
	x.result(s, ok, o.pat.state != patRunning) // or the connection is refused
}

func (x *proxy) result(s *backendServer, ok, silent bool) {
	s.passed, s.silent = ok, silent
	switch {
	case ok && s.up:
		s.health = fullHP
	case ok:
		if s.health++; s.health >= rise {
			x.set(s, true, "check")
		}
	case s.up:
		if s.health--; s.health < rise {
			x.set(s, false, "check")
		}
	default:
		s.health = 0
	}
	next := inter
	switch {
	case !s.up && s.health == 0:
		next = downInter
	case s.health != fullHP:
		next = fastInter
	}
	x.schedule(s, next)
}

// compose writes the state file from targets. The caller holds mu.
func (x *proxy) compose(routes map[string]plan.Route, targets plan.Targets) {
	x.file = map[string]bool{}
	for backend, r := range routes {
		for _, s := range r.Servers {
			name := backend + "/" + s.Name
			up := r.Role != plan.RoutePrimary
			if now := x.servers[name]; now != nil && x.running {
				up = now.up
			}
			switch targets[backend][s.Name].Start {
			case plan.Up:
				up = true
			case plan.Down:
				up = false
			}
			x.file[name] = up
		}
	}
}

// crash is SIGKILL; systemd starts it again.
func (x *proxy) crash() {
	x.running = false
	x.gen++
	x.h.w.say(x.h.node, "HAProxy is gone")
	x.h.w.check.step()
}

// router is pkg/host/haproxy as far as order and timing matter.
type router struct {
	*rig
	targets plan.Targets
	edge    bool
	known   bool
	// contested: the last assertion held a server up whose check gets no answer.
	contested bool
}

// Assert implements agent.Router.
func (r *router) Assert(ctx context.Context, u plan.Unit, edge bool) (moves int, err error) {
	return moves, r.locked(func() error {
		moves, err = r.assert(u, edge)
		return err
	})
}

func (r *router) assert(u plan.Unit, edge bool) (int, error) {
	x, w := r.h.proxy, r.h.w
	edge = edge || r.edge || !r.known || !r.targets.Same(u.Targets)
	r.targets, r.known = u.Targets, true
	w.acted(act{h: r.h, p: r.p, kind: actAssert, primary: heldUp(u)})
	if edge {
		x.compose(u.Routes, u.Targets)
	}
	if !x.running {
		r.edge = true
		return 0, errors.New("no such file: admin.sock")
	}
	r.edge = false
	moves := 0
	r.contested = false
	for _, down := range []bool{true, false} { // downs first
		for _, name := range x.names() {
			s := x.servers[name]
			t := u.Targets[s.backend][s.name]
			switch {
			case down && t.Held == plan.Down:
				if s.up {
					moves++
				}
				x.set(s, false, "agent")
			case !down && t.Held.HoldsUp() && (edge || !s.up && s.passed || t.Held == plan.Vouch && s.silent || r.bug == BugReissuesUp):
				if !s.up {
					moves++
				}
				x.set(s, true, "agent")
			}
			r.contested = r.contested || s.primary && t.Held.HoldsUp() && s.silent
		}
	}
	return moves, nil
}

// unanswered is agent.Host.Contested.
func (r *router) unanswered(string) (contested bool) {
	_ = r.locked(func() error { contested = r.contested; return nil }) // a dead process asks nobody
	return contested
}

// ComposeState implements agent.Router.
func (r *router) ComposeState(_ context.Context, u plan.Unit) error {
	return r.locked(func() error {
		r.h.proxy.compose(u.Routes, u.Targets)
		return nil
	})
}

// reload is the end of the unit transaction: state file, new worker, the proof, and
// what was asserted last once more. Without targets what runs is kept.
func (r *router) reload(ctx context.Context, u plan.Unit) error {
	err := r.locked(func() error {
		r.edge, r.targets, r.known = true, u.Targets, true
		r.h.proxy.compose(u.Routes, u.Targets)
		return nil
	})
	if err != nil {
		return err
	}
	w := r.h.w
	load := 30*time.Millisecond + time.Duration(100*w.chance("load", r.h.node, u.Files)*float64(time.Millisecond))
	if err := r.takes(ctx, load); err != nil {
		return err
	}
	err = r.locked(func() error {
		r.h.proxy.start(u, "reload by the agent")
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.takes(ctx, 20*time.Millisecond); err != nil {
		return err
	}
	return r.locked(func() error {
		if u.Targets = r.targets; len(u.Targets) == 0 {
			return nil
		}
		_, err := r.assert(u, true)
		return err
	})
}

// heldUp is the member that an assertion holds up on read-write routes.
func heldUp(u plan.Unit) string {
	for backend, r := range u.Routes {
		if r.Role != plan.RoutePrimary {
			continue
		}
		for name, t := range u.Targets[backend] {
			if t.Held.HoldsUp() {
				return name
			}
		}
	}
	return ""
}
