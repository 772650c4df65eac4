package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func (a *app) databaseCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "database", Short: "Databases of a cluster",
		Long: "A database is a document, databases/<name>. What these commands do, pgctrl set and unset\n" +
			"do as well.",
	}
	c.AddCommand(a.objectList("databases"), a.databaseAdd(), a.objectRemove("databases"))
	return c
}

func (a *app) databaseAdd() *cobra.Command {
	var w writeFlags
	c := &cobra.Command{
		Use: "add <cluster> <database> [field=value ...]", Short: "Add a database, or change one",
		Example: "  pgctrl database add pg-test shop owner=app extensions.pg_trgm=true schemas.sales=app",
		Args:    cobra.MinimumNArgs(2), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.edit(cmd.Context(), args[0], "databases/"+args[1], w, func(doc string, old []byte) ([]byte, error) {
				return withFields(doc, old, args[2:])
			})
		},
	}
	w.add(c)
	return c
}

// objectRemove drops a user or a database, with its name typed.
func (a *app) objectRemove(kind string) *cobra.Command {
	one := oneOfKind[kind]
	long := "Looks at who leads, asks for the name to be typed (or takes it from --confirm) and drops\nthe " + one + ". "
	if kind == "users" {
		long += "PostgreSQL refuses while it owns anything, and says what."
	} else {
		long += "All that is in it goes; who is connected is cut off."
	}
	var w writeFlags
	var typed string
	c := &cobra.Command{
		Use: "remove <cluster> <" + one + ">", Short: "Drop a " + one, Long: long,
		Example: "  pgctrl " + one + " remove pg-test old --confirm old",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.dropObject(cmd.Context(), args[0], kind, args[1], typed, w)
		},
	}
	w.add(c)
	c.Flags().StringVar(&typed, "confirm", "", "the name of what is removed, instead of typing it when asked")
	return c
}

// dropObject says state: absent, waits until it is gone, and takes the document away.
func (a *app) dropObject(ctx context.Context, cluster, kind, name, typed string, w writeFlags) error {
	l, err := a.read(ctx, append([]keys.Family{keys.PatroniKey}, documentFamilies...)...)
	if err != nil {
		return err
	}
	document := kind + "/" + name
	if _, err := address(l, cluster, document); err != nil {
		return err
	}
	leader, led := l.Get(l.layout.Leader(cluster))
	if !led {
		return fail("nobody leads %s, so nobody could drop it. Nothing was written.", cluster).then("pgctrl status %s", cluster)
	}
	fields := []string{"state=absent"}
	if kind == "databases" {
		fields = append(fields, "confirm="+name)
	}
	key := l.layout.ClusterDoc(cluster, document)
	old, _ := l.Get(key)
	text, err := desired.SetFields(document, old.Value, fields)
	if err != nil {
		return problemsOf(l, err)
	}
	c := change{scope: cluster, writes: map[string][]byte{key: text}, why: w.reason, typed: true,
		guards: []store.Guard{store.ModIs(l.layout.Leader(cluster), leader.ModRevision)}}
	if err := c.judge(l); err != nil {
		return err
	}
	a.say("drop %s %s of %s; %s leads", oneOfKind[kind], name, cluster, leader.Value)
	if w.dryRun {
		return exitCode(NotConverged)
	}
	if err := a.confirmed(name, typed); err != nil {
		return err
	}
	if string(text) == string(old.Value) {
		c.writes[key] = append(text, '\n') // said before; say it again, so that it is waited for
	}
	err = a.writeAndWait(ctx, l, c, w.wait, func(rev int64) { a.note("wrote    %s: state absent (revision %d)", document, rev) })
	var conflict *store.Conflict
	if errors.As(err, &conflict) && conflict.Key == l.layout.Leader(cluster) {
		return fail("the leader of %s changed after it was shown. Nothing was written.", cluster).then("pgctrl status %s", cluster)
	}
	if err != nil || w.wait <= 0 {
		return err
	}
	if err := a.awaitDropped(ctx, cluster, key, w.wait); err != nil {
		return err
	}
	return a.forgetObject(ctx, cluster, kind, name)
}

// awaitDropped waits until the leader's node has gone through everything. That all nodes have
// answered is not enough: a replica has nothing to do, says so, and may lead a moment later.
func (a *app) awaitDropped(ctx context.Context, cluster, key string, wait time.Duration) error {
	f, err := a.follow(ctx)
	if err != nil {
		return err
	}
	defer f.stop()
	done, err := a.await(ctx, f, 0, wait, func(s kv.Snapshot) bool { return isDropped(s, a.settings.Layout, cluster, key) })
	if err == nil && !done {
		a.note("%s after %s; it goes on. Run the command again to see it to its end", a.err.yellow("not done"), wait)
		return exitCode(NotConverged)
	}
	return err
}

// isDropped reports whether the leader's node has gone through the plan that it has, and says
// nothing against the document.
func isDropped(s kv.Snapshot, l keys.Layout, cluster, key string) bool {
	_, r, answered := leadersAnswer(s, l, cluster)
	_, through := r.Facts[observed.FactOtherRoles]
	whole, _ := r.Condition(observed.Applied) // of the plan as a whole, as of a frozen one
	return answered && through && !r.Refuses(key) && !(whole.Key == "" && whole.Bad())
}

// forgetObject deletes the document that has done its work, and the password.
func (a *app) forgetObject(ctx context.Context, cluster, kind, name string) error {
	l, err := a.read(ctx, documentFamilies...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := a.commit(ctx, l, change{scope: cluster, writes: map[string][]byte{l.layout.ClusterDoc(cluster, kind+"/"+name): nil}}); err != nil {
		return err
	}
	if kind == "users" {
		client, err := a.connect(ctx)
		if err != nil {
			return err
		}
		if _, err := client.Commit(ctx, nil, []store.Op{store.Delete(l.layout.Secret(cluster, keys.UserSecret(name)))}); err != nil {
			return err
		}
	}
	a.note("dropped  %s; its document is gone too", name)
	return nil
}
