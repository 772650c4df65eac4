package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// writeFlags are what every command has that changes documents.
type writeFlags struct {
	wait   time.Duration
	dryRun bool
	reason string
	file   string
	// secrets are written with the document.
	secrets map[string][]byte
}

// defaultWait is how long a command waits for hosts. A change that touches one node is in
// force within a second; one that is rolled out goes node by node (R15), which took 3 to 5 s
// for each in the lab. What does not go on by itself ends the wait at once.
const defaultWait = 2 * time.Minute

func (w *writeFlags) add(c *cobra.Command) {
	c.Flags().DurationVar(&w.wait, "wait", defaultWait, "how long to wait until it is so on every host; 0 returns at once")
	c.Flags().BoolVar(&w.dryRun, "dry-run", false, "show what would change and write nothing; exit code 2 when something would")
	c.Flags().StringVar(&w.reason, "reason", "", "why, for the record")
}

func (a *app) setCommand() *cobra.Command {
	var w writeFlags
	c := &cobra.Command{
		Use: "set <cluster> <document> [field=value ...]", Short: "Change a document",
		Long: `Merges fields into a document, or replaces it with a file. Dots name what is
deeper; the value is YAML, typed by the document's schema. Everything is checked
before anything is written. "defaults" in place of the cluster changes what every
cluster inherits, "nodes" a host, "hooks" who is told of the events of all clusters.`,
		Example: `  pgctrl set pg-test postgres parameters.work_mem=16MB
  pgctrl set pg-test members/pg-test-3 offline=true --reason "reports only"
  pgctrl set pg-test services/primary -f primary.yaml
  pgctrl set defaults postgres ttl=20s loop_wait=5s retry_timeout=5s
  pgctrl set nodes pg1 roles=[infra]
  pgctrl set hooks page events=[leader.*] webhook.url=https://hooks.example.org/pgctrl`,
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.complete(completeScopes, completeDocuments, completeAssignments),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) > 2) == (w.file != "") {
				return fail("expected either fields (field=value) or a file (-f FILE, -f - for standard input)").then("pgctrl explain %s", args[1])
			}
			var text []byte
			if w.file != "" {
				var err error
				if text, err = a.readDocument(w.file); err != nil {
					return err
				}
			}
			return a.edit(cmd.Context(), args[0], args[1], w, func(doc string, old []byte) ([]byte, error) {
				if w.file != "" {
					return text, nil
				}
				return desired.SetFields(doc, old, args[2:])
			})
		},
	}
	w.add(c)
	c.Flags().StringVarP(&w.file, "file", "f", "", "replace the document with this file; - is standard input")
	return c
}

func (a *app) unsetCommand() *cobra.Command {
	var w writeFlags
	c := &cobra.Command{
		Use: "unset <cluster> <document> [field ...]", Short: "Back to the default",
		Long: `Removes fields from a document, or the whole document, so that the defaults are
in force again. It never removes what holds data: deleting the document of a
member means "no longer managed".`,
		Example: `  pgctrl unset pg-test postgres parameters.work_mem
  pgctrl unset pg-test services/replica`,
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.complete(completeScopes, completeDocuments, completeFields),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.edit(cmd.Context(), args[0], args[1], w, func(doc string, old []byte) ([]byte, error) {
				if len(args) == 2 {
					return nil, mayDelete(args[0], args[1], desired.Changes(doc, nil, old))
				}
				text, err := desired.Unset(doc, old, args[2:])
				if old == nil {
					text = nil // a document that isn't there has nothing to lose
				}
				return text, err
			})
		},
	}
	w.add(c)
	return c
}

// mayDelete refuses to delete by accident what holds data. said is what the document
// says: one that says absent is of no more use once its member is gone.
func mayDelete(scope, document string, said []desired.FieldChange) error {
	if kind, name, _ := strings.Cut(document, "/"); scope != scopeDefaults && (kind == "users" || kind == "databases") {
		if removes(said) {
			return nil
		}
		one := oneOfKind[kind]
		return fail("%s holds what nobody else has: without its document it would stay as it is, unmanaged. Nothing was written.", document).
			then("pgctrl %s remove %s %s (drops it)", one, scope, name)
	}
	if k, err := desired.KindOf(schemaName(scope, document)); err == nil && k.Name == "members" && scope != scopeDefaults {
		if removes(said) {
			return nil
		}
		return fail("%s is a member: without its document it would run on, unmanaged. Nothing was written.", document).
			then("pgctrl remove %s %s (stops it; its data stay)", scope, strings.TrimPrefix(document, "members/")).
			then("pgctrl set %s %s offline=true (takes it out of service)", scope, document)
	}
	if scope == scopeNodes {
		return fail("a node is removed with its own command. Nothing was written.").then("pgctrl node remove %s", document)
	}
	return nil
}

func (a *app) readDocument(path string) ([]byte, error) {
	var b []byte
	var err error
	if path == "-" {
		b, err = io.ReadAll(io.LimitReader(a.In, desired.MaxDocument+1))
	} else {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fail("read %s: %s. Nothing was written.", path, lastWords(err))
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}

// editTries is how often an edit starts over when somebody else wrote the same
// document between reading and writing. Fields merge, so starting over is safe.
const editTries = 5

// edit reads a document, changes its text, judges the result, writes it and waits.
func (a *app) edit(ctx context.Context, scope, document string, w writeFlags, next func(doc string, old []byte) ([]byte, error)) error {
	for try := 1; ; try++ {
		err := a.editOnce(ctx, scope, document, w, next)
		// A file was written by somebody who looked at the old document.
		if !errors.Is(err, store.ErrConflict) || try == editTries || w.file != "" {
			return err
		}
	}
}

func (a *app) editOnce(ctx context.Context, scope, document string, w writeFlags, next func(doc string, old []byte) ([]byte, error)) error {
	l, err := a.read(ctx, documentFamilies...)
	if err != nil {
		return err
	}
	doc, err := address(l, scope, document)
	if err != nil {
		return err
	}
	key := keyOf(l.layout, scope, document)
	old, existed := l.Get(key)
	var oldText []byte
	if existed {
		oldText = append([]byte{}, old.Value...)
	}
	newText, err := next(doc, oldText)
	if err != nil {
		return problemsOrFailure(l, err)
	}
	same := existed && newText != nil && string(oldText) == string(newText)
	if !existed && newText == nil || same && len(w.secrets) == 0 {
		a.say("no change")
		return nil
	}
	c := change{scope: scope, writes: map[string][]byte{key: newText}, why: w.reason, typed: w.file == "", secrets: w.secrets}
	if err := c.judge(l); err != nil {
		return err
	}
	fields := fieldChanges(l, scope, doc, c.writes, oldText, newText)
	if removes(fields) {
		return byRemove(scope, document)
	}
	if !fleetScope(scope) {
		next := desired.Load(desired.Overlay(l, c.writes), l.layout, scope, "members", "postgres")
		if old := postgres.TooOld(next, l.alive); len(old) > 0 && doc == "postgres" {
			return fail("%s%s. Nothing was written.", postgres.QuorumWords, strings.Join(old, ", ")).then("pgctrl set %s postgres synchronous_mode=on", scope)
		}
	}
	if err := a.judgeParameters(ctx, l, scope, document, fields); err != nil {
		return err
	}
	if w.dryRun {
		a.showChanges(scope, document, fields, 0)
		return exitCode(NotConverged)
	}
	if strings.HasPrefix(doc, scopeHooks+"/") {
		w.wait = 0 // no host has anything of it
	}
	return a.writeAndWait(ctx, l, c, w.wait, func(rev int64) {
		if same { // and written once more, so that it is waited for
			a.say("changed %s %s: its password (revision %d)", scope, document, rev)
			return
		}
		a.showChanges(scope, document, fields, rev)
	})
}

// writeAndWait commits a change, has it shown, and waits until it is in force. The
// live view starts before the write, so that the time it takes is not the hosts'.
func (a *app) writeAndWait(ctx context.Context, l *live, c change, wait time.Duration, show func(rev int64)) error {
	if wait <= 0 {
		rev, err := a.commit(ctx, l, c)
		if err == nil {
			show(rev)
		}
		return err
	}
	f, err := a.follow(ctx)
	if err != nil {
		return err
	}
	defer f.stop()
	before := a.wrongBefore(a.concerned(f.Snapshot(), c.scope), c)
	since := a.deps.Now()
	rev, err := a.commit(ctx, l, c)
	if err != nil {
		return err
	}
	show(rev)
	return a.awaitEdit(ctx, f, c.scope, before, rev, wait, since)
}

// problemsOrFailure words an error of an edit.
func problemsOrFailure(l *live, err error) error {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return problemsOf(l, err)
}

// address checks scope and document before anything is read from them, and
// returns the document as package desired names it.
func address(l *live, scope, document string) (string, error) {
	doc := document
	switch scope {
	case scopeDefaults:
		doc = scopeDefaults + "/" + document
	case scopeNodes:
		if err := keys.CheckNode(document); err != nil {
			return "", fail("%s. Nothing was written.", err)
		}
		if _, ok := l.Get(l.layout.Node(document)); !ok {
			return "", fail("%s", nothing("no node "+document+didYouMean(document, l.documents(scopeNodes)))).
				then("pgctrl node add %s <address>", document)
		}
		return schemaName(scope, document), nil
	case scopeHooks:
		if err := keys.CheckName(document); err != nil {
			return "", fail("%s. Nothing was written.", err)
		}
		return schemaName(scope, document), nil
	default:
		if err := l.cluster(scope); err != nil {
			return "", err
		}
	}
	k, err := desired.KindOf(doc)
	if err != nil {
		return "", fail("%s", nothing(err.Error())).then("pgctrl explain")
	}
	if k.Fleet {
		return "", fail("nodes belong to no cluster. Nothing was written.").then("pgctrl node --help")
	}
	return doc, nil
}

// fieldChanges is what the change means, field by field. In a cluster that is with
// all that the document inherits, because that is what hosts see.
func fieldChanges(l *live, scope, doc string, writes map[string][]byte, oldText, newText []byte) []desired.FieldChange {
	if fleetScope(scope) {
		return desired.Changes(doc, oldText, newText)
	}
	before := desired.Load(l, l.layout, scope)
	after := desired.Load(desired.Overlay(l, writes), l.layout, scope)
	return desired.ChangesBetween(before, after, doc)
}

// showChanges prints what changed. rev is 0 when nothing was written.
func (a *app) showChanges(scope, document string, fields []desired.FieldChange, rev int64) {
	verb, at := "changed", fmt.Sprintf(" (revision %d)", rev)
	if rev == 0 {
		verb, at = "would change", ""
	}
	if len(fields) == 0 {
		a.say("%s %s %s: its text, not its meaning%s", verb, scope, document, at)
		return
	}
	a.say("%s %s %s%s", verb, scope, document, at)
	t := newTable(a.out, "  FIELD", "OLD", "", "NEW", "EFFECT")
	for _, f := range fields {
		t.row("  "+f.Field, orNone(f.Old), "->", orNone(f.New), a.effect(f.Effect))
	}
	t.write(a.Out)
	if e := desired.Strongest(fields); e != desired.None && e != desired.Reload {
		a.say("  %s: %s", e, e.Meaning())
	}
}

func (a *app) effect(e desired.Effect) string {
	switch e {
	case desired.None, desired.Reload:
		return string(e)
	case desired.Rebuild:
		return a.out.red(string(e))
	}
	return a.out.yellow(string(e))
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func itoa(n int) string { return strconv.Itoa(n) }

// removes reports whether a change says that something is to be removed.
func removes(fields []desired.FieldChange) bool {
	return slices.ContainsFunc(fields, func(f desired.FieldChange) bool { return f.Field == "state" && f.New == "absent" })
}

// byRemove refuses a removal that nobody has looked at the leader for.
func byRemove(scope, document string) error {
	what := scope
	if kind, name, _ := strings.Cut(document, "/"); kind == "users" || kind == "databases" {
		return fail("state: absent drops it; that has a command of its own, which looks at the leader first. Nothing was written.").
			then("pgctrl %s remove %s %s", oneOfKind[kind], scope, name)
	}
	if _, member, is := strings.Cut(document, "members/"); is {
		what += " " + member
	}
	return fail("state: absent removes it; that has a command of its own, which looks at the leader first. Nothing was written.").
		then("pgctrl remove %s", what)
}
