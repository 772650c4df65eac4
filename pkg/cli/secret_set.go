package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// settable are the secrets that come from people.
var settable = []string{
	keys.BackupS3Key, keys.BackupS3Secret, keys.BackupPassphrase,
	keys.RestoreS3Key, keys.RestoreS3Secret, keys.RestorePassphrase,
}

// pairedWith is the secret that an object store takes besides this one.
var pairedWith = map[string]string{
	keys.BackupS3Key: keys.BackupS3Secret, keys.BackupS3Secret: keys.BackupS3Key,
	keys.RestoreS3Key: keys.RestoreS3Secret, keys.RestoreS3Secret: keys.RestoreS3Key,
}

func (a *app) secretSet() *cobra.Command {
	return &cobra.Command{
		Use: "set <cluster> <name>", Short: "Keep a secret that pgctrl can't make",
		Long: `Asks for the secret, or reads one line from standard input when that is no terminal;
never from the command line, where others on the host can read it. These come from people:
  backup-s3-key      the access key of the object store that backups are in
  backup-s3-secret   its secret key
  backup-passphrase  what backups are encrypted with. pgctrl makes one when there is none,
                     so it is set only before the first backup, or when it was lost. Keep a
                     copy of it elsewhere: without it no backup can be read.
  restore-s3-key, restore-s3-secret, restore-passphrase
                     the same of the backups that a new cluster begins with (document
                     restore); pgctrl restore copies them
  hook-<name>        what the events for that hook are signed with; "hooks" in place of the
                     cluster for a hook of the fleet
Another access key is in use within seconds, on every member's node.`,
		Example: "  pgctrl secret set pg-test backup-s3-key\n  pgctrl secret set pg-test backup-s3-secret < key.txt\n  pgctrl secret set hooks hook-page < key.txt",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.complete(completeClusters, func(*live, []string, string) []string { return settable }),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setSecret(cmd.Context(), args[0], args[1])
		},
	}
}

func (a *app) setSecret(ctx context.Context, cluster, name string) error {
	l, err := a.read(ctx, append([]keys.Family{keys.Secrets}, documentFamilies...)...)
	if err != nil {
		return err
	}
	if cluster != scopeHooks {
		if err := l.cluster(cluster); err != nil {
			return err
		}
	}
	key := l.layout.Secret(secretsOf(cluster), name)
	old, exists := l.Get(key)
	user, isUser := strings.CutPrefix(name, keys.UserSecret(""))
	switch {
	case isUser:
		return fail("%s is a user's password. Nothing was written.", name).then("pgctrl user passwd %s %s", cluster, user)
	case slices.Contains(rotating(), name):
		return fail("%s is made by pgctrl. Nothing was written.", name).then("pgctrl secret rotate %s %s", cluster, name)
	case l.signs(cluster, name): // whatever its name is otherwise
	case !slices.Contains(settable, name) || cluster == scopeHooks:
		return fail("there is no secret %s to set (%s)%s Nothing was written.", name, oneOf(settable), endMeaning(name, settable)).
			then("pgctrl secret set --help")
	case exists && name == keys.BackupPassphrase:
		return fail("cluster %s has a passphrase, and what is encrypted with it could not be read with another one. Nothing was written.", cluster).
			then("pgctrl secret show %s %s", cluster, name)
	}
	value, err := a.askSecret(name)
	if err != nil {
		return err
	}
	c := change{scope: cluster, why: "secret " + name, secrets: map[string][]byte{key: value}}
	c.guards = []store.Guard{store.ModIs(key, old.ModRevision)}
	rev, err := a.commit(ctx, l, c)
	if errors.Is(err, store.ErrConflict) {
		return fail("somebody else has just set %s. Nothing was written.", name).then("pgctrl secret show %s %s", cluster, name)
	}
	if err != nil {
		return err
	}
	a.say("changed %s secret %s (revision %d)", cluster, name, rev)
	if other, paired := pairedWith[name]; paired {
		if _, there := l.Get(l.layout.Secret(cluster, other)); !there {
			a.note("  next: %s", a.err.bold(fmt.Sprintf("pgctrl secret set %s %s", cluster, other)))
		}
	}
	return nil
}

// secretsOf is whose secrets a scope means: those of the fleet are of its hooks.
func secretsOf(scope string) string {
	if scope == scopeHooks {
		return keys.Fleet
	}
	return scope
}

// signs reports whether a secret is the key of a hook that there is.
func (l *live) signs(scope, name string) bool {
	hook, ok := strings.CutPrefix(name, keys.HookSecret(""))
	_, there := l.Get(hookKey(l.layout, scope, hook))
	return ok && there
}

// askSecret reads one line, unseen where a person types it.
func (a *app) askSecret(name string) ([]byte, error) {
	var b []byte
	var err error
	if f, is := a.In.(*os.File); is && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(a.Err, "%s: ", name)
		b, err = term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.Err)
	} else if b, err = bufio.NewReader(io.LimitReader(a.In, 1<<12)).ReadBytes('\n'); err == io.EOF {
		err = nil
	}
	if err != nil {
		return nil, fail("read the secret: %s. Nothing was written.", lastWords(err))
	}
	b = []byte(strings.TrimSpace(string(b)))
	if len(b) == 0 {
		return nil, fail("expected a secret on one line, found nothing. Nothing was written.")
	}
	if strings.HasPrefix(name, keys.HookSecret("")) {
		return b, nil // no file has it
	}
	// As the file will have it; the error does not repeat the secret.
	_, err = plan.Expand(plan.SecretRef(name, plan.FormatINI), plan.Values{Secret: func(string) ([]byte, bool) { return b, true }})
	if err != nil {
		return nil, fail("expected a secret that pgBackRest's file can hold: %s. Nothing was written.", err)
	}
	return b, nil
}
