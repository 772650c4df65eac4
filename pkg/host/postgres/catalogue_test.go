package postgres

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgctrl/pgctrl/pkg/desired"
)

// TestParametersAreJudgedAsPostgresDoes: for every parameter that a session may set,
// and values of every sort, what is refused before it is written is what PostgreSQL
// would refuse, by PostgreSQL's own word.
func TestParametersAreJudgedAsPostgresDoes(t *testing.T) {
	s := newServer(t)
	s.start()
	all, err := s.cfg.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	values := []string{"0", "1", "-1", "2", "100", "8192", "65536", "2147483647", "2147483648", "1.5", "0.1", "-0.5", "1e3", "0x10",
		"on", "off", "true", "false", "yes", "no", "o", "tru", "", "default", "lots",
		"1kB", "16MB", "1 GB", "1mb", "1GBs", "2TB", "100ms", "1s", "5min", "1h", "1d", "10us", "1S", "1.5s"}
	checked, refused := 0, 0
	err = s.cfg.withConn(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		for _, p := range all {
			if p.Context != "user" && p.Context != "superuser" || p.Type == "string" || p.Name == "max_stack_depth" {
				continue // others can't be tried in a session, text has rules of its own, the stack the host's limit
			}
			for _, v := range append(values, p.Enum...) {
				_, err := conn.Exec(ctx, "select set_config($1, $2, true)", p.Name, v)
				var pg *pgconn.PgError
				if err != nil && !errors.As(err, &pg) {
					return err
				}
				// What a parameter checks beyond its type is PostgreSQL's alone to say.
				bad := err != nil && (pg.Code == "22023") && (pg.Detail == "" || pg.Hint != "")
				if err != nil && !bad {
					continue
				}
				found := desired.JudgeParameters("k", []desired.FieldChange{{Field: "parameters." + p.Name, New: strconv.Quote(v)}}, all)
				checked++
				if bad {
					refused++
				}
				if (len(found) > 0) != bad {
					t.Errorf("%s (%s, %s, %s..%s, %v) = %q: PostgreSQL says %v, we %v", p.Name, p.Type, p.Unit, p.Min, p.Max, p.Enum, v, err, found)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 2000 || refused < 500 {
		t.Errorf("only %d values were tried and %d refused", checked, refused)
	}
}

// TestRefusedRuleNamesItsDocument: PostgreSQL's words about a line of pg_hba.conf come
// with the document the line is from.
func TestRefusedRuleNamesItsDocument(t *testing.T) {
	s := newServer(t)
	s.start()
	s.write("pg_hba.conf", "local all postgres peer map=pgctrl\nhost all all 10.0.0.0/8 scram-sha-256 map=x # hba/app\nhost all all all nothing\n")
	got, err := s.cfg.FileErrors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`pg_hba.conf line 2: hba/app: authentication option "map" is only valid for authentication methods ident, peer, gssapi, sspi, and cert`,
		`pg_hba.conf line 3: invalid authentication method "nothing"`,
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAlterSystemIsSeen: what somebody set past the documents, and that it is gone.
func TestAlterSystemIsSeen(t *testing.T) {
	s := newServer(t)
	s.start()
	seen := make(chan State, 100)
	w := NewWatcher(s.cfg, func(st State) { seen <- st }, nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	defer func() { stop(); <-done }()
	const own = "fsync, listen_addresses, port, shared_buffers, unix_socket_directories" // the test's own way to set them
	for _, step := range []struct{ sql, want string }{
		{"select 1", own},
		{"alter system set work_mem = '64MB'", own + ", work_mem"},
		{"alter system reset work_mem", own},
	} {
		s.exec(step.sql)
		for st := range seen {
			if st.Altered == step.want {
				break
			}
		}
	}
}

// TestAlterSystemNotTold: a PostgreSQL that can't say what ALTER SYSTEM set answers all
// the same, and whoever takes it for a silent one takes the primary from its clients.
func TestAlterSystemNotTold(t *testing.T) {
	s := newServer(t)
	s.start()
	s.exec("set allow_system_table_mods = on; alter view pg_catalog.pg_file_settings rename to pg_no_file_settings")
	seen := make(chan State, 100)
	w := NewWatcher(s.cfg, func(st State) { seen <- st }, nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	defer func() { stop(); <-done }()
	if st := <-seen; !st.TakesWrites() || st.Altered != "" {
		t.Errorf("seen as %+v", st)
	}
}
