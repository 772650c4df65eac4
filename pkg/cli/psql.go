package cli

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

func (a *app) psqlCommand() *cobra.Command {
	var database, user, command string
	var replica bool
	c := &cobra.Command{
		Use: "psql <cluster>", Short: "Open psql on the primary, or on a replica",
		Long: "Connects past PgBouncer, through the service default, or with --replica through offline.\n" +
			"The password is the user's secret and is handed over in the environment.",
		Example: "  pgctrl psql pg-test\n  pgctrl psql pg-test --replica -d shop -U app\n  pgctrl psql pg-test -c 'select version()'",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), documentFamilies...)
			if err != nil {
				return err
			}
			if err := l.cluster(args[0]); err != nil {
				return err
			}
			service := "default"
			if replica {
				service = "offline"
			}
			text, err := clusterURL(desired.Load(l, l.layout, args[0]), service)
			if err != nil {
				return err
			}
			secret := keys.UserSecret(user)
			if user == "postgres" {
				secret = user
			}
			client, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			e, ok, err := client.Get(cmd.Context(), l.layout.Secret(args[0], secret))
			if err != nil {
				return a.unreachable(err)
			}
			words := []string{connectionOf(text, user, database)}
			if command != "" {
				words = append(words, "-X", "-c", command)
			}
			var password []byte
			if ok {
				password = e.Value
			}
			return a.runPsql(cmd.Context(), words, password)
		},
	}
	c.Flags().StringVarP(&database, "dbname", "d", "postgres", "the database")
	c.Flags().StringVarP(&user, "username", "U", "postgres", "the user")
	c.Flags().StringVarP(&command, "command", "c", "", "run this and end")
	c.Flags().BoolVar(&replica, "replica", false, "on a replica")
	return c
}

// runPsql runs psql until it ends by itself. Ctrl-C is for psql, which gets it from the
// terminal as we do and stops a query by it; whoever ends us otherwise ends both.
func (a *app) runPsql(ctx context.Context, words []string, password []byte) error {
	p := exec.CommandContext(context.WithoutCancel(ctx), "psql", words...)
	p.Stdin, p.Stdout, p.Stderr, p.Env = a.In, a.Out, a.Err, os.Environ()
	if password != nil {
		p.Env = append(p.Env, "PGPASSWORD="+string(password))
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	err := p.Start()
	if err == nil {
		go func() {
			if s, ok := <-term; ok {
				_ = p.Process.Signal(s) // it may have ended
			}
		}()
		err = p.Wait()
	}
	signal.Stop(term)
	close(term)
	if errors.Is(err, exec.ErrNotFound) {
		return fail("psql is not installed on this host").then("apt-get install postgresql-client")
	}
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return exitCode(Failed) // it has said why
	}
	return err
}

// connectionOf is a URL for another user and database.
func connectionOf(text, user, database string) string {
	rest := text[len("postgres://postgres@"):]
	hosts := rest[:len(rest)-len("/postgres")]
	return "postgres://" + url.PathEscape(user) + "@" + hosts + "/" + url.PathEscape(database)
}
