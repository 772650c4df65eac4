package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
)

// The watcher's clockwork.
const (
	// lookEvery is how often it is asked whether the process is stopped: what a signal
	// stopped shows in /proc at once and nowhere else. One read of an open file.
	lookEvery = 100 * time.Millisecond
	// askEvery is how often the console is asked whether somebody paused something.
	askEvery = 800 * time.Millisecond
	// AnswerWithin is for how long a PgBouncer that runs may be silent. It works on one
	// thread, and logins took one on a crowded two-core host for a second (measured).
	AnswerWithin = 3 * time.Second
	// againEvery is how soon a PgBouncer that is not there is looked for again.
	againEvery = 50 * time.Millisecond
)

// State is what a watcher found.
type State struct {
	// Known is false before the first answer, or the first failure to get one.
	Known, Up bool
	// Why says what is wrong with one that is not up. It stays as it was first said
	// until the pooler is up again.
	Why string
}

// Resumed is something that somebody stopped by hand at the console and that works again.
type Resumed struct {
	// What is "pooler", or "database app"; Was is "paused" or "disabled".
	What, Was string
}

// Watcher watches one PgBouncer over a standing connection to its console, ends what
// people paused, and notices within moments when the process is gone or stopped.
type Watcher struct {
	dir string
	log *zap.Logger

	mu       sync.Mutex
	state    State
	handsOff bool
	resumed  []Resumed
}

// NewWatcher watches the PgBouncer whose socket is in the folder. It does nothing
// before Run.
func NewWatcher(dir string, log *zap.Logger) *Watcher {
	if log == nil {
		log = zap.NewNop()
	}
	return &Watcher{dir: dir, log: log}
}

// Last is what was found last.
func (w *Watcher) Last() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// HandsOff says whether what people paused is left so.
func (w *Watcher) HandsOff(off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handsOff = off
}

// Repairs returns what was resumed since the last call.
func (w *Watcher) Repairs() []Resumed {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.resumed
	w.resumed = nil
	return out
}

// Run watches until ctx ends. changed is called when Last or Repairs has something
// new; it does not block.
func (w *Watcher) Run(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		why := w.session(ctx, changed)
		if ctx.Err() != nil {
			return
		}
		w.set(State{Known: true, Why: why}, changed)
		select {
		case <-ctx.Done():
		case <-time.After(againEvery):
		}
	}
}

func (w *Watcher) set(s State, changed func()) {
	w.mu.Lock()
	old := w.state
	if !s.Up && old.Known && !old.Up {
		s.Why = old.Why
	}
	w.state = s
	w.mu.Unlock()
	if old != s {
		changed()
	}
}

// session is one connection to the console, for as long as it is good. It returns why
// it is not any more.
func (w *Watcher) session(ctx context.Context, changed func()) (why string) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	opening, cancel := context.WithTimeout(ctx, AnswerWithin)
	defer cancel()
	c, err := open(opening, w.dir)
	if err != nil {
		return silence(opening, err)
	}
	defer c.close()
	if err := listens(opening, strconv.Itoa(c.port)); err != nil {
		return err.Error()
	}
	look, err := lookAt(c.pid)
	if err != nil {
		w.log.Warn("its process can't be looked at; only its answers count", zap.Error(err))
	}
	defer look.close()
	r := &resumer{w: w, c: c}
	if err := r.begin(opening); err != nil {
		return silence(opening, err)
	}
	w.set(State{Known: true, Up: true}, changed)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	asked, answer := time.Now(), (chan asked)(nil)
	defer func() { // the connection is closed after the question is over
		if answer != nil {
			stop()
			<-answer
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ""
		case <-look.gone:
			return "its process ended"
		case a := <-answer:
			answer = nil
			if a.why != "" {
				return a.why
			}
			if a.found {
				changed()
			}
		case <-tick.C:
		}
		if look.stopped() {
			return "its process is stopped by a signal"
		}
		if answer == nil && time.Since(asked) >= askEvery {
			asked, answer = time.Now(), r.askAway(ctx)
		}
	}
}

// asked is what became of one question: whether something was resumed, or why the
// console could not be asked.
type asked struct {
	found bool
	why   string
}

// askAway asks beside the watcher, which goes on to look at the process meanwhile.
func (r *resumer) askAway(ctx context.Context) chan asked {
	out := make(chan asked, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, AnswerWithin)
		defer cancel()
		found, err := r.look(ctx)
		out <- asked{found, silence(ctx, err)}
	}()
	return out
}

// silence is what to say of a console that could not be asked. It must not differ from
// one attempt to the next.
func silence(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Sprintf("it does not answer within %s", AnswerWithin)
	case errors.Is(err, errNoSocket):
		return errNoSocket.Error()
	}
	return "its console can't be asked: " + err.Error()
}
