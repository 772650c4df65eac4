package cli

import (
	"fmt"
	"sync"
	"time"
)

// progress says what has come about and what is waited for. On a terminal the
// last line shows the time going by; elsewhere there are only lines that stay.
type progress struct {
	a       *app
	mu      sync.Mutex
	waiting string
	stop    chan struct{}
	done    sync.WaitGroup
}

// tickEvery is how often the seconds move.
const tickEvery = 100 * time.Millisecond

func (a *app) newProgress() *progress {
	p := &progress{a: a, stop: make(chan struct{})}
	if a.err.tty {
		p.done.Go(p.tick)
	}
	return p
}

func (p *progress) tick() {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-t.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		}
	}
}

// draw shows the moving line, cut to the terminal's width so that it is one line.
func (p *progress) draw() {
	if p.waiting == "" {
		return
	}
	line := []rune(p.seconds() + "  " + p.waiting)
	if w := p.a.err.width; w > 0 && len(line) >= w {
		line = line[:w-1]
	}
	fmt.Fprint(p.a.Err, clearLine+p.a.err.dim(string(line)))
}

const clearLine = "\r\x1b[K"

func (p *progress) seconds() string {
	return fmt.Sprintf("%5.1f s", p.a.deps.Now().Sub(p.a.start).Seconds())
}

// came writes a line that stays.
func (p *progress) came(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.a.err.tty {
		fmt.Fprint(p.a.Err, clearLine)
	}
	p.a.note("%s  %s", p.seconds(), fmt.Sprintf(format, args...))
}

// waits sets what the moving line says.
func (p *progress) waits(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = what
}

// end removes the moving line.
func (p *progress) end() {
	close(p.stop)
	p.done.Wait()
	if p.a.err.tty {
		fmt.Fprint(p.a.Err, clearLine)
	}
}
