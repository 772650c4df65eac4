package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/internal/scram"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// loginsQuery asks for the roles of a list as this very server has them. A replica may
// be asked too: it answers with what it has replayed.
const loginsQuery = `select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
    'name', r.rolname, 'login', r.rolcanlogin, 'password', r.rolpassword)), '[]')::text
  from pg_catalog.pg_authid r where r.rolname = any ($1::text[])`

// Logins finds those of the roles that the PostgreSQL at port has as they are to be, as
// far as logging in goes: with the very password, or with none and no way in. Of each it
// returns a mark that is another one when the password was given to it another time. It
// changes nothing, and may be asked on a replica.
func (o *Objects) Logins(ctx context.Context, port int, roles []plan.Role) (map[string]string, error) {
	cfg := o.o.Config
	cfg.Port, cfg.Database = port, "postgres"
	conn, err := cfg.connectWith(ctx, session)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	have, err := readLogins(ctx, conn, roles)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string]string{}
	for _, want := range roles {
		r, exists := have[want.Name]
		switch {
		case !exists || r.Login != want.Login:
		case want.NoPassword && r.Password == nil:
			out[want.Name] = ""
		case want.Password != "" && r.Password != nil:
			if secret, ok := o.o.Secret(want.Password); ok && o.isOf(want.Name, *r.Password, string(secret)) {
				out[want.Name] = mark(*r.Password)
			}
		}
	}
	return out, nil
}

func readLogins(ctx context.Context, conn *pgx.Conn, roles []plan.Role) (map[string]roleState, error) {
	var names []string
	for _, r := range roles {
		names = append(names, r.Name)
	}
	found, err := askJSON[[]roleState](ctx, conn, loginsQuery, names)
	if err != nil {
		return nil, fmt.Errorf("ask PostgreSQL who may log in: %w", err)
	}
	out := map[string]roleState{}
	for _, r := range found {
		out[r.Name] = r
	}
	return out, nil
}

// mark is made of the salt alone, which PostgreSQL tells whoever begins to log in.
func mark(verifier string) string {
	salt := scram.Salt(verifier)
	if salt == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(salt))
	return hex.EncodeToString(sum[:4])
}
