package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/user"
	"sort"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// change is what a command wants to write: documents by key, nil to delete, each
// with the revision it was read at. It is judged before anything is written.
type change struct {
	scope  string // a cluster, "defaults", "nodes" or "hooks"
	writes map[string][]byte
	why    string
	// typed: the texts were composed of fields, so nobody has seen their lines.
	typed bool
	// secrets are written with the documents and shown nowhere.
	secrets map[string][]byte
	// guards are further conditions of the write, besides the documents' revisions.
	guards []store.Guard
}

// record is what lies beside the documents: who changed them, from where and why.
type record struct {
	Schema int    `json:"schema"`
	Who    string `json:"who"`
	From   string `json:"from"`
	Why    string `json:"why,omitempty"`
	// Cause is the event that a hook's program made the change for, as <cluster>/<id>.
	Cause     string    `json:"cause,omitempty"`
	At        time.Time `json:"at"`
	Documents []string  `json:"documents"`
}

// judge refuses a change that brings a new problem. What was wrong before keeps
// nobody from repairing something else.
func (c change) judge(l *live) error {
	cluster := c.scope
	if fleetScope(cluster) {
		cluster = ""
	}
	found := desired.New(desired.Candidate(l, l.layout, cluster, c.writes))
	if len(found) == 0 {
		return nil
	}
	for i, p := range found {
		if _, ours := c.writes[p.Key]; ours && c.typed {
			found[i].Line = 0
		}
	}
	return refused(l, found)
}

// refused words problems as an error: the first in full, then the others.
func refused(l *live, problems desired.Problems) error {
	var lines []string
	for _, p := range problems {
		lines = append(lines, at(l, p)+p.Text())
	}
	f := fail("%s", nothing(strings.Join(lines, "\n       ")))
	seen := map[string]bool{}
	for _, p := range problems {
		if n := nextFor(p); n != "" && !seen[n] {
			seen[n] = true
			f.then("%s", n)
		}
	}
	return f
}

// nothing ends a refusal: the sentence people look for first.
func nothing(cause string) string {
	if !strings.HasSuffix(cause, "?") {
		cause = strings.TrimSuffix(cause, ".") + "."
	}
	return cause + " Nothing was written."
}

// at is the place of a problem as people address it: cluster, document, line.
func at(l *live, p desired.Problem) string {
	key := p.Key
	if r, err := l.layout.Parse(key); err == nil {
		switch {
		case r.Node != "":
			key = scopeNodes + " " + r.Node
		case r.Family == keys.Hooks:
			_, name := r.Document()
			key = scopeHooks + " " + name
		case r.Cluster != "":
			key = r.Cluster + " " + r.Doc
		case r.Doc != "":
			key = scopeDefaults + " " + r.Doc
		}
	}
	if key == "" {
		return ""
	}
	if p.Line > 0 {
		return key + ": line " + itoa(p.Line) + ": "
	}
	return key + ": "
}

// nextFor is the command that helps with a problem.
func nextFor(p desired.Problem) string {
	if p.Reason == "UnknownNode" {
		return "pgctrl node list"
	}
	if p.Kind == "" {
		return "pgctrl explain"
	}
	return "pgctrl explain " + p.Kind
}

// problemsOf makes package desired's errors a refusal.
func problemsOf(l *live, err error) error {
	var ps desired.Problems
	if errors.As(err, &ps) {
		return refused(l, ps)
	}
	return fail("%s", nothing(err.Error())).then("pgctrl explain")
}

// commit writes the change in one transaction, guarded by the revisions that were
// read, together with the record of who made it.
func (a *app) commit(ctx context.Context, l *live, c change) (int64, error) {
	client, err := a.connect(ctx)
	if err != nil {
		return 0, err
	}
	if err := a.reserved(ctx, client, l, c); err != nil {
		return 0, err
	}
	guards := append([]store.Guard{}, c.guards...)
	var ops []store.Op
	r := record{Schema: 1, Who: whoami(a.deps.Getenv), From: from(a.deps.Getenv), Why: c.why, Cause: cause(a.deps.Getenv), At: a.deps.Now().UTC().Truncate(time.Second)}
	for _, key := range sortedKeys(c.writes) {
		old, _ := l.Get(key) // revision 0: must still not exist
		guards = append(guards, store.ModIs(key, old.ModRevision))
		if value := c.writes[key]; value == nil {
			ops = append(ops, store.Delete(key))
		} else {
			ops = append(ops, store.Put(key, value))
		}
		r.Documents = append(r.Documents, strings.TrimPrefix(key, l.layout.DesiredPrefix()))
	}
	for _, key := range sortedKeys(c.secrets) {
		ops = append(ops, store.Put(key, c.secrets[key]))
	}
	sort.Strings(r.Documents)
	b, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	ops = append(ops, store.Put(l.layout.ChangesKey(c.scope), b))
	rev, err := client.Commit(ctx, guards, ops)
	if errors.Is(err, store.ErrNoSpace) {
		return 0, err
	}
	if err != nil && !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
		// The answer may be what got lost.
		return 0, fail("etcd did not confirm the write (%s); whether it happened is not known", lastWords(err)).then("pgctrl get %s", c.scope)
	}
	return rev, err
}

// whoami is the person behind the command, also under sudo, and the host.
func whoami(getenv func(string) string) string {
	name := getenv("SUDO_USER")
	if name == "" {
		name = getenv("USER")
	}
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return name + "@" + host
}

// from is where the person sits, when they came over the network.
func from(getenv func(string) string) string {
	if client, _, _ := strings.Cut(getenv("SSH_CONNECTION"), " "); client != "" {
		return client
	}
	return "local"
}

// cause is the event that a command is run for, when a hook's program runs it: pgagent gives
// programs PGCTRL_CAUSE. What does not look like an event's name is somebody's own variable.
func cause(getenv func(string) string) string {
	said := getenv("PGCTRL_CAUSE")
	cluster, id, _ := strings.Cut(said, "/")
	if _, err := events.ParseID(id); err != nil || cluster != events.Fleet && keys.CheckCluster(cluster) != nil {
		return ""
	}
	return said
}
