package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgctrl/pgctrl/internal/scram"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// ObjectOptions is what the driver of SQL objects needs.
type ObjectOptions struct {
	// Config is where PostgreSQL is; its port and database are set by the driver.
	Config Config
	// Secret looks up a password.
	Secret func(name string) ([]byte, bool)
}

// Objects makes roles, databases and what is in them so. It keeps one connection, to
// the database postgres; others are connected to for a moment, and only when something
// was written in them, since a connection that stays would be in the way of whoever
// copies or drops a database.
type Objects struct {
	o ObjectOptions

	mu    sync.Mutex
	port  int
	conn  *pgx.Conn
	epoch plan.Epoch
	// verified are the verifiers that were found to be of a secret, by role: 4096 rounds
	// for every role at every look would be most of the agent's work.
	verified map[string]verifiedSecret
	// looked is what had been written in a database when it was looked into last.
	looked  map[string]lookedInto
	failing map[string]*failedObject
}

type verifiedSecret struct{ kept, secret string }

type lookedInto struct {
	written string
	at      time.Time
}

// failedObject is an object that PostgreSQL refused, with its words, and when to try again.
type failedObject struct {
	steps string
	cond  observed.Condition
	at    time.Time
	wait  time.Duration
}

// The driver's clockwork.
const (
	// lookAnyway is how long a database is passed over in which, by PostgreSQL's
	// statistics, nothing was written.
	lookAnyway = time.Minute
	// retryFirst and retryLast bound the pause after a refusal.
	retryFirst = 2 * time.Second
	retryLast  = 30 * time.Second
	// sqlTimeout bounds a statement: an extension or a copy of a template take seconds.
	sqlTimeout = 20 * time.Second
)

// session are the settings of the driver's connections. A lock that somebody holds
// must not hold up the rest, a commit must not wait for a replica that is away (the
// next primary's agent makes it so again), and statements with verifiers in them must
// be seen in no log and no view. Whoever owns a database sets what sessions in it begin
// with: read-only would look like a PostgreSQL in recovery and end every run at it, and
// another role could do less.
var session = map[string]string{
	"statement_timeout": "20s", "lock_timeout": "2s", "synchronous_commit": "local",
	"log_statement": "none", "log_min_error_statement": "panic", "log_min_duration_statement": "-1",
	"log_min_duration_sample": "-1", "log_transaction_sample_rate": "0", "log_duration": "off", "log_parameter_max_length_on_error": "0",
	"track_activities": "off", "pg_stat_statements.track": "none", "standard_conforming_strings": "on",
	"client_min_messages": "warning", "default_transaction_read_only": "off", "role": "none",
}

// NewObjects makes the driver.
func NewObjects(o ObjectOptions) *Objects {
	return &Objects{o: o, verified: map[string]verifiedSecret{}, looked: map[string]lookedInto{}, failing: map[string]*failedObject{}}
}

// Close ends the connection that is kept.
func (o *Objects) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop()
}

func (o *Objects) drop() {
	if o.conn != nil {
		closeConn(o.conn)
		o.conn = nil
	}
}

// Converge goes through everything once on the PostgreSQL at port. Each object is a
// transaction of its own, and what PostgreSQL refuses is a problem of that object; the
// error is about PostgreSQL as a whole, or plan.ErrStale.
func (o *Objects) Converge(ctx context.Context, port int, r plan.SQL, at plan.Epoch, how plan.SQLRun) (plan.SQLResult, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at < o.epoch {
		return plan.SQLResult{}, plan.ErrStale
	}
	if at > o.epoch {
		clear(o.failing)
	}
	o.epoch = at
	if o.conn == nil || o.conn.IsClosed() || o.port != port {
		o.drop()
		cfg := o.o.Config
		cfg.Port, cfg.Database = port, "postgres"
		conn, err := cfg.connectWith(ctx, session)
		if err != nil {
			return plan.SQLResult{}, err
		}
		o.conn, o.port = conn, port
	}
	p := &pass{o: o, how: how, sql: r, result: plan.SQLResult{Changed: map[string]string{}, Differs: map[string]string{}}}
	err := p.run(ctx)
	if err != nil && !errors.Is(err, plan.ErrStale) {
		o.drop()
	}
	return p.result, err
}

// pass is one way through everything.
type pass struct {
	o      *Objects
	how    plan.SQLRun
	sql    plan.SQL
	world  world
	result plan.SQLResult
}

// errRecovery: it is no primary (any more).
var errRecovery = fmt.Errorf("PostgreSQL is in recovery: %w", plan.ErrStale)

func (p *pass) run(ctx context.Context) error {
	if err := p.read(ctx); err != nil {
		return err
	}
	// What goes comes last: a database before the role that owns it.
	for _, r := range p.sql.Roles {
		if !r.Absent {
			if err := p.role(ctx, r); err != nil {
				return err
			}
		}
	}
	for _, d := range p.sql.Databases {
		if err := p.database(ctx, d); err != nil {
			return err
		}
	}
	if err := p.inside(ctx); err != nil {
		return err
	}
	for _, r := range p.sql.Roles {
		if r.Absent {
			if err := p.role(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pass) role(ctx context.Context, r plan.Role) error {
	have := p.world.role(r.Name)
	var password *string
	if r.Password != "" {
		secret, ok := p.o.o.Secret(r.Password)
		if !ok {
			p.problem(r.ID(), "", observed.Condition{
				Reason: observed.WaitingForSecret, Key: r.Key, Message: fmt.Sprintf("the password %q is not there", r.Password),
			})
			return nil
		}
		s := string(secret)
		password = &s
	}
	steps, err := roleSteps(r, have, password, func(kept string) bool { return p.o.isOf(r.Name, kept, *password) })
	if err != nil {
		return err
	}
	return p.apply(ctx, p.o.conn, r.ID(), r.Key, steps)
}

// isOf reports whether a verifier is of a password, and remembers that it is.
func (o *Objects) isOf(role, kept, secret string) bool {
	now := verifiedSecret{kept, secret}
	if o.verified[role] == now {
		return true
	}
	if !scram.Verifies(kept, secret) {
		return false
	}
	o.verified[role] = now
	return true
}

func (p *pass) database(ctx context.Context, d plan.Database) error {
	have, exists := p.world.database(d.Name)
	switch {
	case d.Absent && !exists:
		return nil
	case d.Absent:
		// Its name was typed; whoever is connected goes with it.
		return p.apply(ctx, p.o.conn, d.ID(), d.Key, []step{{"dropped", "DROP DATABASE " + ident(d.Name) + " WITH (FORCE)"}})
	case !exists:
		if err := p.apply(ctx, p.o.conn, d.ID(), d.Key, []step{{"made", createStatement(d)}}); err != nil || p.result.Changed[d.ID()] == "" {
			return err
		}
		if err := p.read(ctx); err != nil {
			return err
		}
		have, _ = p.world.database(d.Name)
	}
	if field, is, wanted := fixed(d, have); field != "" {
		p.result.Problems = append(p.result.Problems, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.FixedAtForming, Key: d.Key,
			Message: fmt.Sprintf("%s: database %s was made with %s, which stays; %s has no effect", field, d.Name, is, wanted),
			Next:    fmt.Sprintf("pgctrl set %s databases/%s %s=%s", p.sql.SQL, d.Name, field, is),
		})
	}
	return p.apply(ctx, p.o.conn, d.ID(), d.Key, databaseSteps(d, have))
}

// inside looks into the databases in which something may have changed.
func (p *pass) inside(ctx context.Context) error {
	want := map[string]plan.Database{}
	for _, d := range p.sql.Databases {
		want[d.Name] = d
	}
	for _, have := range p.world.Databases {
		d, described := want[have.Name]
		if !have.Connects || d.Absent || !described && p.sql.Lookup == "" {
			continue
		}
		written := string(have.Written) + fmt.Sprint(d)
		last := p.o.looked[have.Name]
		if p.world.Counting && !p.how.Whole && written == last.written && time.Since(last.at) < lookAnyway {
			continue
		}
		failed, err := p.into(ctx, have.Name, d)
		if err != nil {
			return err
		}
		if !failed {
			p.o.looked[have.Name] = lookedInto{written, time.Now()}
		}
	}
	return nil
}

// into makes one database's inside so.
func (p *pass) into(ctx context.Context, name string, want plan.Database) (failed bool, err error) {
	id, key := "database "+name, want.Key
	if want.Name == "" {
		want = plan.Database{Name: name}
	}
	conn := p.o.conn
	if name != "postgres" {
		cfg := p.o.o.Config
		cfg.Port, cfg.Database = p.o.port, name
		if conn, err = cfg.connectWith(ctx, session); err != nil {
			if ctx.Err() != nil || !p.still() {
				return true, plan.ErrStale
			}
			p.problem(id, "", p.refused(id, key, err))
			return true, nil
		}
		defer closeConn(conn)
	}
	before := len(p.result.Problems) + len(p.result.Differs)
	have, err := readInside(ctx, conn, want, p.sql.Lookup)
	if err != nil {
		if ctx.Err() != nil || !p.still() {
			return true, plan.ErrStale
		}
		p.problem(id, "", p.refused(id, key, err))
		return true, nil
	}
	if p.sql.Lookup != "" {
		if !have.Admits || !have.Named && closes(want) {
			// PgBouncer asks in the very database that its client wants.
			connect := []step{{"CONNECT for " + p.sql.Lookup, "GRANT CONNECT ON DATABASE " + ident(name) + " TO " + ident(p.sql.Lookup)}}
			if err := p.apply(ctx, conn, id+": "+connect[0].what, key, connect); err != nil {
				return true, err
			}
		}
		if err := p.apply(ctx, conn, id+": pgctrl.user_lookup", key, lookupSteps(p.sql.Lookup, p.world.User, have.Locked, have.Lookup)); err != nil {
			return true, err
		}
	}
	for _, steps := range insideSteps(want, have) {
		if err := p.apply(ctx, conn, id+": "+steps[0].what, key, steps); err != nil {
			return true, err
		}
	}
	return len(p.result.Problems)+len(p.result.Differs) > before, nil
}

func (p *pass) still() bool { return p.how.Still == nil || p.how.Still() }

// apply does the steps of one object in one transaction, or says what differs.
func (p *pass) apply(ctx context.Context, conn *pgx.Conn, id, key string, steps []step) error {
	if len(steps) == 0 {
		delete(p.o.failing, id)
		return nil
	}
	what := words(steps)
	if !p.how.Repair || p.how.Hold != nil && p.how.Hold(id) {
		p.result.Differs[id] = what
		return nil
	}
	failed := p.o.failing[id]
	if failed != nil && failed.steps == what && time.Until(failed.at) > 0 {
		p.again(failed)
		return nil
	}
	if !p.still() {
		return plan.ErrStale
	}
	err := execute(ctx, conn, steps)
	if err == nil {
		delete(p.o.failing, id)
		if before := p.result.Changed[id]; before != "" {
			what = before + ", " + what
		}
		p.result.Changed[id] = what
		return nil
	}
	if ctx.Err() != nil || conn.IsClosed() && conn == p.o.conn {
		return fmt.Errorf("make %s so: %s", id, scram.Without(err.Error()))
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "25006" {
		return errRecovery
	}
	p.problem(id, what, p.refused(id, key, err))
	return nil
}

// execute runs the steps as one transaction. What can't be in one stands alone.
func execute(ctx context.Context, conn *pgx.Conn, steps []step) error {
	if len(steps) == 1 {
		_, err := conn.Exec(ctx, steps[0].statement, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, s := range steps {
		if _, err := tx.Exec(ctx, s.statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}
