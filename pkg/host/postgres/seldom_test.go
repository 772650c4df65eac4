package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// session is a login that stays.
func (o *objects) session(t *testing.T, role, password string) *pgx.Conn {
	t.Helper()
	cfg, _ := pgx.ParseConfig("host=" + o.s.dir + " sslmode=disable")
	cfg.Port, cfg.User, cfg.Password, cfg.Database = uint16(o.s.cfg.Port), role, password, "postgres"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// TestSessionsOfADroppedRole: PostgreSQL leaves them open, and a pooler goes on using
// them, for a new user of the same name too, who then is not himself. They end when the
// role is dropped; those of a role that somebody else dropped, or dropped on the
// primary of this replica, when the watcher looks.
func TestSessionsOfADroppedRole(t *testing.T) {
	o := newObjects(t)
	sql := pooled()
	sql.Roles = append(sql.Roles, user("app"))
	o.secrets["users/app"] = "app's"
	o.so(t, sql)
	stays, goes := o.session(t, "pgctrl_pooler", "pool-er"), o.session(t, "app", "app's")
	sql.Roles[1] = plan.Role{Name: "app", Key: sql.Roles[1].Key, Absent: true}
	o.so(t, sql)
	if _, err := goes.Exec(t.Context(), "select 1"); err == nil {
		t.Error("a session of the dropped role goes on")
	}

	o.exec(t, "postgres", "create role other login password 'x'")
	goes = o.session(t, "other", "x")
	o.exec(t, "postgres", "drop role other")
	o.s.watch()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var said *pgconn.PgError
	if _, err := goes.WaitForNotification(ctx); !errors.As(err, &said) || said.Code != "57P01" {
		t.Errorf("a session of the role dropped by hand: %v", err)
	}
	if _, err := stays.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("a session of another role ended: %v", err)
	}
}
