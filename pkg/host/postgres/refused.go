package postgres

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgctrl/pgctrl/internal/scram"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// refused is what PostgreSQL said of one object.
func (p *pass) refused(id, key string, err error) observed.Condition {
	c := observed.Condition{Reason: observed.Rejected, Key: key, Message: id + ": " + scram.Without(err.Error())}
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		c.Reason = observed.ApplyFailed
		return c
	}
	c.Message = id + ": PostgreSQL says: " + scram.Without(pe.Message)
	if pe.Detail != "" {
		c.Message += " (" + scram.Without(pe.Detail) + ")"
	}
	c.Next = p.next(key, pe)
	return c
}

// next is the command that helps.
func (p *pass) next(key string, pe *pgconn.PgError) string {
	doc := document(key)
	switch pe.Code {
	case "2BP01": // dependent objects still exist
		return fmt.Sprintf("pgctrl psql %s   (REASSIGN OWNED BY ... TO ...; DROP OWNED BY ...; in every database that has something of it)", p.sql.SQL)
	case "42704", "3F000", "42P01": // undefined object, schema, table
		return fmt.Sprintf("pgctrl get %s %s", p.sql.SQL, doc)
	case "0A000", "58P01": // no such extension, no such file
		return "pgagent check (on each node; extensions are packages of the distribution)"
	case "55P03", "55006": // lock not available, object in use
		return fmt.Sprintf("pgctrl psql %s -c 'select * from pg_stat_activity'   (it is tried again by itself)", p.sql.SQL)
	}
	if doc == "" {
		return fmt.Sprintf("pgctrl status %s", p.sql.SQL)
	}
	return fmt.Sprintf("pgctrl get %s %s", p.sql.SQL, doc)
}

// document is the tail of a document's key.
func document(key string) string {
	at := len(key)
	for range 2 {
		if i := lastSlash(key[:at]); i >= 0 {
			at = i
		}
	}
	if at == len(key) {
		return ""
	}
	return key[at+1:]
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}

// problem notes what keeps an object from being so, and when it is tried again.
func (p *pass) problem(id, steps string, c observed.Condition) {
	c.Type, c.Status = observed.Applied, observed.False
	failed := p.o.failing[id]
	if failed == nil || failed.steps != steps {
		failed = &failedObject{steps: steps, wait: retryFirst}
		p.o.failing[id] = failed
	} else {
		failed.wait = min(2*failed.wait, retryLast)
	}
	failed.cond, failed.at = c, time.Now().Add(failed.wait)
	p.again(failed)
}

func (p *pass) again(f *failedObject) {
	p.result.Problems = append(p.result.Problems, f.cond)
	if left := max(time.Until(f.at), time.Millisecond); p.result.Retry == 0 || left < p.result.Retry {
		p.result.Retry = left
	}
}

// describes reports whether the plan names a role or database.
func (p *pass) describes(name string, databases bool) bool {
	if databases {
		return name == "postgres" || name == "template1" || name == "template0" ||
			slices.ContainsFunc(p.sql.Databases, func(d plan.Database) bool { return d.Name == name })
	}
	return slices.ContainsFunc(p.sql.Roles, func(r plan.Role) bool { return r.Name == name })
}
