package postgres

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// line is a standing connection over which one question is asked again and again. It
// is waited on by deadlines and not by contexts: those take a goroutine for each
// question and another for each pause, which cost more than the question itself.
type line struct {
	conn *pgx.Conn
	wire net.Conn
	stop func() bool // of what ends it with the context

	mu    sync.Mutex
	ended bool // the context is over: no deadline counts any more
	idle  bool // rest is waiting
	woken bool // rest is to return, or has no need to begin
}

// prepared is the name of the question on the server.
const prepared = "pgagent"

// past is a deadline that is over.
var past = time.Unix(1, 0)

// open connects; the line ends with ctx.
func (c Config) open(ctx context.Context) (*line, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if _, err := conn.PgConn().Prepare(bounded, prepared, question, nil); err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("ask %s: %w", c, err)
	}
	l := &line{conn: conn, wire: conn.PgConn().Conn()}
	l.stop = context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended = true
		_ = l.wire.SetDeadline(past)
	})
	return l, nil
}

func (l *line) close() {
	l.stop()
	_ = l.wire.SetDeadline(time.Time{}) // closeConn has its own
	closeConn(l.conn)
}

// ask asks the question. After an error the line is worth nothing.
func (l *line) ask(timeout time.Duration) (inRecovery, streaming bool, err error) {
	if err := l.deadline(time.Now().Add(timeout)); err != nil {
		return false, false, err
	}
	r := l.conn.PgConn().ExecPrepared(context.Background(), prepared, nil, nil, nil)
	rows := 0
	for ; r.NextRow(); rows++ {
		v := r.Values()
		inRecovery, streaming = string(v[0]) == "t", string(v[1]) == "t"
	}
	if _, err := r.Close(); err != nil {
		return false, false, err
	}
	if rows != 1 {
		return false, false, fmt.Errorf("%d rows for an answer", rows)
	}
	return inRecovery, streaming, l.deadline(time.Time{})
}

func (l *line) deadline(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return context.Canceled
	}
	return l.wire.SetDeadline(at)
}

// rest lasts until the time has passed, wake was called, or the connection ended.
func (l *line) rest(d time.Duration) {
	l.mu.Lock()
	if l.idle = !l.woken && !l.ended; l.idle {
		_ = l.wire.SetReadDeadline(time.Now().Add(d))
	}
	idle := l.idle
	l.mu.Unlock()
	if idle {
		// What is not over at its deadline has ended, or something came that is nothing to
		// us, which ends the pause early.
		_ = l.conn.PgConn().WaitForNotification(context.Background())
	}
	l.mu.Lock()
	l.idle, l.woken = false, false
	l.mu.Unlock()
}

// wake ends the present rest, or the next at once.
func (l *line) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.woken = true
	if l.idle {
		_ = l.wire.SetReadDeadline(past)
	}
}
