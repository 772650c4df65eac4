package cli

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// oneOfKind is how people call one of what a kind of documents is about.
var oneOfKind = map[string]string{"users": "user", "databases": "database"}

func (a *app) userCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "user", Short: "Users of a cluster's PostgreSQL",
		Long: "A user is a document, users/<name>, and a password kept as a secret. What these commands\n" +
			"do, pgctrl set, unset and secret do as well.",
	}
	c.AddCommand(a.objectList("users"), a.userAdd(), a.userPasswd(), a.objectRemove("users"))
	return c
}

// objectList lists users or databases.
func (a *app) objectList(kind string) *cobra.Command {
	one := oneOfKind[kind]
	var all bool
	c := &cobra.Command{
		Use: "list <cluster>", Short: "The " + kind + " that have a document, and with --all the others",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeClusters), Example: "  pgctrl " + one + " list pg-test --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), append([]keys.Family{keys.Observed}, documentFamilies...)...)
			if err != nil {
				return err
			}
			if err := l.cluster(args[0]); err != nil {
				return err
			}
			rows := objectRows(l, args[0], kind, all)
			return a.emit(rows, func() {
				t := newTable(a.out, strings.ToUpper(one), "SAYS", "STATE")
				for _, r := range rows {
					t.row(r.Name, r.Says, r.State)
				}
				t.write(a.Out)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also those that no document describes, as the primary last reported them")
	return a.withFormat(c)
}

// objectRow is one user or database.
type objectRow struct {
	Name  string `json:"name"`
	Says  string `json:"says"`
	State string `json:"state"`
}

func objectRows(l *live, cluster, kind string, all bool) []objectRow {
	docs := desired.Load(l, l.layout, cluster, "users", "databases")
	problems, others := objectReports(l, cluster, kind)
	rows := []objectRow{}
	for _, e := range l.Range(l.layout.ClusterDoc(cluster, kind+"/")) {
		name := strings.TrimPrefix(e.Key, l.layout.ClusterDoc(cluster, kind+"/"))
		r := objectRow{Name: name, State: "present"}
		for _, f := range docs.Effective(kind + "/" + name) {
			if f.Key != "" {
				r.Says += " " + f.Field + "=" + f.Value
			}
		}
		r.Says = strings.TrimSpace(r.Says)
		switch {
		case strings.Contains(r.Says, "state=absent"):
			r.State = "to be dropped"
		case kind == "users" && docs.Users[name] == nil, kind == "databases" && docs.Databases[name] == nil:
			r.State = string(observed.InvalidDocument)
		}
		if p := problems[e.Key]; p != "" {
			r.State = p
		}
		rows = append(rows, r)
	}
	if all {
		for _, name := range others {
			rows = append(rows, objectRow{Name: name, State: "no document"})
		}
	}
	return rows
}

// objectReports is what nodes said of users or databases: the reason why one is not
// so, by its document's key, and those that nobody described.
func objectReports(l *live, cluster, kind string) (problems map[string]string, others []string) {
	problems = map[string]string{}
	fact := map[string]string{"users": observed.FactOtherRoles, "databases": observed.FactOtherDatabases}[kind]
	for _, e := range l.Range(l.layout.Prefix(keys.Observed)) {
		ref, err := l.layout.Parse(e.Key)
		if err != nil || ref.Cluster != cluster || ref.Concern != "databases" {
			continue
		}
		r, err := observed.Decode[observed.Report](e)
		if err != nil {
			continue
		}
		for _, c := range r.Conditions {
			if c.Bad() && c.Key != "" {
				problems[c.Key] = string(c.Reason)
			}
		}
		if names := strings.Fields(r.Facts[fact]); len(names) > 0 {
			others = names
		}
	}
	return problems, others
}

// passwordFlags say where a password comes from.
type passwordFlags struct {
	file   string
	prompt bool
}

func (p *passwordFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&p.file, "password-file", "", "read the password from this file; - is standard input")
	c.Flags().BoolVar(&p.prompt, "prompt", false, "ask for the password")
}

// password is what the flags say; nil when they say nothing.
func (a *app) password(p passwordFlags) ([]byte, error) {
	var b []byte
	var err error
	switch {
	case p.file != "" && p.prompt:
		return nil, fail("expected --password-file or --prompt, not both. Nothing was written.")
	case p.prompt:
		f, is := a.In.(*os.File)
		if !is || !term.IsTerminal(int(f.Fd())) {
			return nil, fail("--prompt needs a terminal. Nothing was written.").then("pgctrl user passwd ... --password-file -")
		}
		fmt.Fprint(a.Err, "password: ")
		b, err = term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.Err)
	case p.file == "-":
		b, err = bufio.NewReader(io.LimitReader(a.In, 1<<12)).ReadBytes('\n')
		if err == io.EOF {
			err = nil
		}
	case p.file != "":
		b, err = os.ReadFile(p.file)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fail("read the password: %s. Nothing was written.", lastWords(err))
	}
	b = []byte(strings.TrimRight(string(b), "\r\n"))
	if len(b) == 0 || strings.ContainsAny(string(b), "\x00\r\n") {
		return nil, fail("expected a password on one line. Nothing was written.")
	}
	return b, nil
}

// newPassword is 192 bits without a character that anything quotes.
func newPassword() []byte {
	var b [24]byte
	_, _ = rand.Read(b[:]) // it never fails; it ends the program instead
	return []byte(base64.RawURLEncoding.EncodeToString(b[:]))
}

func (a *app) userAdd() *cobra.Command {
	var w writeFlags
	var p passwordFlags
	c := &cobra.Command{
		Use: "add <cluster> <user> [field=value ...]", Short: "Add a user, or change one",
		Long: "Writes the document users/<user> and, when one is given, its password, in one step.\n" +
			"Without one it is made at random: pgctrl secret show <cluster> users/<user>.",
		Example: "  pgctrl user add pg-test app\n  pgctrl user add pg-test report member_of=[pg_read_all_data] --prompt",
		Args:    cobra.MinimumNArgs(2), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			secret, err := a.password(p)
			if err != nil {
				return err
			}
			if secret != nil {
				w.secrets = map[string][]byte{a.settings.Layout.Secret(args[0], keys.UserSecret(args[1])): secret}
			}
			return a.edit(cmd.Context(), args[0], "users/"+args[1], w, func(doc string, old []byte) ([]byte, error) {
				return withFields(doc, old, args[2:])
			})
		},
	}
	w.add(c)
	p.add(c)
	return c
}

// withFields is a document with fields set; one without any is all defaults.
func withFields(doc string, old []byte, fields []string) ([]byte, error) {
	if len(fields) > 0 {
		return desired.SetFields(doc, old, fields)
	}
	if old == nil {
		return []byte("{}\n"), nil
	}
	return old, nil
}

func (a *app) userPasswd() *cobra.Command {
	var p passwordFlags
	var wait = defaultWait
	c := &cobra.Command{
		Use: "passwd <cluster> <user>", Short: "Give a user another password",
		Long: "The password is kept as the secret users/<user>. PostgreSQL is only told what lets it\n" +
			"check one. Without a flag it is made at random. Sessions go on; new logins take the new one.",
		Example: "  pgctrl user passwd pg-test app --prompt\n  pgctrl user passwd pg-test app && pgctrl secret show pg-test users/app",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.passwd(cmd.Context(), args[0], args[1], p, wait)
		},
	}
	c.Flags().DurationVar(&wait, "wait", defaultWait, "how long to wait until it is so; 0 returns at once")
	p.add(c)
	return c
}
