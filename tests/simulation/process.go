package simulation

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errKilled is what a killed process gets for everything it still tries.
var errKilled = errors.New("simulation: this process was killed")

// process is one run of one program, from its start to its end. Everything the
// program does outside its own memory passes here first: so a kill takes effect
// between two of its instructions, and a stopped process (SIGSTOP) does nothing
// until it goes on, whatever its timers say. What it decided before it was stopped
// it still does when it goes on, however old that is by then: that is the harm a
// pause can do.
type process struct {
	name string
	dead chan struct{}
	stop context.CancelFunc

	mu   sync.Mutex
	open chan struct{} // closed while the process runs
	went time.Time     // when it last went on

	began time.Time
}

func newProcess(name string) *process {
	p := &process{name: name, dead: make(chan struct{}), open: make(chan struct{}), began: time.Now()}
	close(p.open)
	return p
}

// pass waits while the process is stopped and fails once it was killed. It does not
// look at the caller's context: a stopped process does not notice a deadline.
func (p *process) pass() error {
	for {
		p.mu.Lock()
		open := p.open
		p.mu.Unlock()
		select {
		case <-p.dead:
			return errKilled
		default:
		}
		select {
		case <-open:
			return nil
		case <-p.dead:
		}
	}
}

// pause is SIGSTOP.
func (p *process) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pausedLocked() {
		p.open = make(chan struct{})
	}
}

// resume is SIGCONT.
func (p *process) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pausedLocked() {
		close(p.open)
		p.went = time.Now()
	}
}

func (p *process) paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pausedLocked()
}

// runsFor is for how long it has not been stopped.
func (p *process) runsFor() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.went)
}

func (p *process) pausedLocked() bool {
	select {
	case <-p.open:
		return false
	default:
		return true
	}
}

// kill is SIGKILL. What is on its way to etcd may still arrive; nothing else
// happens any more.
func (p *process) kill() {
	close(p.dead)
	p.stop()
}

func (p *process) killed() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}
