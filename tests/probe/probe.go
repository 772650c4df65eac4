// Package probe samples what a client sees: it opens a new connection at a fixed
// rate, whatever became of the earlier ones (an open loop, so that a slow answer
// does not hide the next attempt), writes one row, and keeps every outcome.
//
// PostgreSQL itself tells a write that reached a server in recovery: it refuses
// it with SQLSTATE 25006, and one still in crash recovery or shutting down
// refuses the connection with 57P03.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sort"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Outcome is what became of one attempt.
type Outcome string

// The outcomes.
const (
	// Written: the row was acknowledged.
	Written Outcome = "written"
	// Replica: the connection reached a server in recovery. Through a read-write
	// service this is the leak that R3 bounds.
	Replica Outcome = "replica"
	// Refused: a server was reached that takes no connections just now.
	Refused Outcome = "refused"
	// Closed: no server was reached, or the connection was cut.
	Closed Outcome = "closed"
)

// Sample is one attempt.
type Sample struct {
	Start, End time.Time
	Outcome    Outcome
	// Server is the address of the PostgreSQL that acknowledged the row.
	Server string
	Err    error
}

// Target is where and how to connect.
type Target struct {
	Host     string
	Port     int
	Password string
	// Patience is how long an attempt may take before the client gives up and
	// leaves it to the next one; 0 means as long as HAProxy holds it.
	Patience time.Duration
	// Dial is how long it may take until the host answers at all; 0 means as long as
	// the attempt. A virtual address that is nowhere yet answers nobody, and the client
	// that waits for it is in the way of the next one.
	Dial time.Duration
}

func (t Target) config() (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable connect_timeout=8 application_name=probe", t.Host, t.Port))
	if err != nil {
		return nil, fmt.Errorf("probe %s:%d: %w", t.Host, t.Port, err)
	}
	c.Password = t.Password
	if t.Dial > 0 {
		c.DialFunc = (&net.Dialer{Timeout: t.Dial}).DialContext
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return c, nil
}

// Connect opens one connection the way the sampler does.
func (t Target) Connect(ctx context.Context) (*pgx.Conn, error) {
	c, err := t.config()
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, c)
}

// Prepare creates the table the sampler writes to; call it once, on the primary.
func (t Target) Prepare(ctx context.Context) error {
	conn, err := t.Connect(ctx)
	if err != nil {
		return fmt.Errorf("prepare probe: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `create table if not exists probe_rows (at timestamptz default clock_timestamp())`); err != nil {
		return fmt.Errorf("prepare probe: %w", err)
	}
	return nil
}

// The row goes to an ordinary table: an unlogged one can't be read on a replica,
// and its refusal there would be another one than clients get. The commit does
// not wait for the disk, which all hosts of the lab share.
const write = `set synchronous_commit = off; insert into probe_rows default values returning host(inet_server_addr())`

// Once makes one attempt.
func (t Target) Once(ctx context.Context) Sample {
	s := Sample{Start: time.Now()}
	if t.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.Patience)
		defer cancel()
	}
	s.Server, s.Err = t.attempt(ctx)
	s.End = time.Now()
	s.Outcome = classify(s.Err)
	return s
}

func (t Target) attempt(ctx context.Context) (string, error) {
	conn, err := t.Connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return Write(ctx, conn)
}

// Write writes one row over an open connection and returns the server's address.
func Write(ctx context.Context, conn *pgx.Conn) (string, error) {
	results, err := conn.PgConn().Exec(ctx, write).ReadAll()
	if err != nil {
		return "", err
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 {
		return "", fmt.Errorf("write returned %d rows", len(last.Rows))
	}
	return string(last.Rows[0][0]), nil
}

func classify(err error) Outcome {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return Written
	case errors.As(err, &pg) && pg.Code == "25006":
		return Replica
	case errors.As(err, &pg) && pg.Code == "57P03":
		return Refused
	}
	return Closed
}

// Sampler runs attempts in the background.
type Sampler struct {
	mu      sync.Mutex
	samples []Sample
	stop    context.CancelFunc
	wg      sync.WaitGroup
	onEach  func(Sample)
}

// Start begins an attempt every interval, at most limit of them at once (a tick
// over the limit is dropped and not counted as an attempt).
func Start(ctx context.Context, t Target, interval time.Duration, limit int, onEach func(Sample)) *Sampler {
	ctx, cancel := context.WithCancel(ctx)
	s := &Sampler{stop: cancel, onEach: onEach}
	slots := make(chan struct{}, limit)
	s.wg.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			select {
			case slots <- struct{}{}:
			default:
				continue
			}
			s.wg.Go(func() {
				defer func() { <-slots }()
				one := t.Once(ctx)
				if ctx.Err() != nil && one.Outcome != Written && one.Outcome != Replica {
					return // cut short by Stop, says nothing about the cluster
				}
				s.add(one)
			})
		}
	})
	return s
}

func (s *Sampler) add(one Sample) {
	s.mu.Lock()
	s.samples = append(s.samples, one)
	s.mu.Unlock()
	if s.onEach != nil {
		s.onEach(one)
	}
}

// Stop ends sampling and returns everything sampled, in order of start.
func (s *Sampler) Stop() []Sample {
	s.stop()
	s.wg.Wait()
	return s.Samples()
}

// Samples returns what was sampled so far, in order of start.
func (s *Sampler) Samples() []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := append([]Sample(nil), s.samples...)
	sort.Slice(out, func(i, j int) bool { return out[i].Start.Before(out[j].Start) })
	return out
}

// Count counts outcomes.
func Count(samples []Sample) map[Outcome]int {
	n := map[Outcome]int{}
	for _, s := range samples {
		n[s.Outcome]++
	}
	return n
}

// FirstWritten returns the earliest acknowledged write that a server of the
// given address acknowledged at or after t; false when there is none.
func FirstWritten(samples []Sample, server string, t time.Time) (Sample, bool) {
	var best Sample
	found := false
	for _, s := range samples {
		if s.Outcome == Written && s.Server == server && !s.End.Before(t) && (!found || s.End.Before(best.End)) {
			best, found = s, true
		}
	}
	return best, found
}
