package simulation

import (
	"context"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/all"
	"github.com/pgctrl/pgctrl/pkg/engine"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// server is one host's `pgctrl server`: a real engine with all real controllers.
type server struct {
	w       *World
	name    string
	runs    []*process
	running bool
	engine  *engine.Engine
}

func (s *server) process() *process { return s.runs[len(s.runs)-1] }

// start runs the server. The caller holds mu.
func (s *server) start() {
	w, p := s.w, newProcess(s.name)
	ctx, cancel := context.WithCancel(w.ctx)
	p.stop = cancel
	c := w.client(p, s.name, serverBug(w.o.Bug))
	e, err := engine.New(engine.Options{
		Client: c, Layout: layout, Controllers: w.controllers(), Log: w.log, ID: s.name, Version: version.String(), Workers: 4,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	s.engine, s.running = e, true
	s.runs = append(s.runs, p)
	w.say(s.name, "server starts")
	go func() {
		_ = e.Run(ctx)
		_ = c.Close()
	}()
	if b := w.o.Bug; b == BugDeletes || b == BugBusy {
		go s.misbehave(p, c)
	}
}

func (s *server) kill() {
	if s.running {
		s.running = false
		s.process().kill()
		s.w.say(s.name, "server killed")
	}
}

func (s *server) stop() {
	if s.running {
		s.running = false
		s.process().stop()
		s.w.say(s.name, "server told to stop")
	}
}

// controllers are the real ones. What the status controller says is wanted in a part
// of the runs only: it takes more time than everything else together.
func (w *World) controllers() []controllers.Controller {
	if w.hasStatus() {
		return all.All()
	}
	return all.Concerns()
}

func (w *World) hasStatus() bool { return w.seed%4 == 0 }
