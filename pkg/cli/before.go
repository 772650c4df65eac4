package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

// verdictPatience is how long beyond the last hook's deadline a server's verdict is waited for:
// another server takes over from one that died within 6 s (serverPatience), and most of that the
// deadline has room for.
const verdictPatience = 5 * time.Second

// before is something that a command is about to do, and that hooks may refuse.
type before struct {
	cluster, operation, subject, why string
	// override goes on whatever the hooks would say.
	override bool
	// again is the command line, for people who mean it all the same.
	again string
}

func overrideFlag(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "override-hooks", false, "go on without asking the hooks that want to be asked before; that is an event")
}

// askHooks returns no error when nobody has anything against it. It comes after everything that
// the command can refuse by itself, and before anything is taken or written. When somebody was
// asked minutes may have gone by, and what must be so is to be looked at again.
func (a *app) askHooks(ctx context.Context, b before) (asked bool, err error) {
	client, err := a.connect(ctx)
	if err != nil {
		return false, err
	}
	l := a.settings.Layout
	var docs []kv.KV
	for _, prefix := range []string{l.ClusterDoc(b.cluster, scopeHooks+"/"), l.Prefix(keys.Hooks)} {
		es, _, err := client.List(ctx, prefix)
		if err != nil {
			return false, a.unreachable(err)
		}
		docs = append(docs, es...)
	}
	ask, unusable := verdicts.Asked(l, docs, b.operation)
	if len(ask)+len(unusable) == 0 {
		return false, nil
	}
	by := whoami(a.deps.Getenv)
	v := verdicts.New(l, verdicts.Verdict{Cluster: b.cluster, Operation: b.operation, Subject: b.subject, By: by, Why: b.why}, ask, a.deps.Now())
	q := &question{app: a, client: client, before: b, key: l.VerdictKey(b.cluster, v.ID), verdict: v}
	switch {
	case b.override:
		v.Hooks = append(v.Hooks, unusable...)
		q.verdict = verdicts.Override(v, by)
		a.note("%s", q.verdict.Words())
		return false, q.write(ctx)
	case len(unusable) > 0:
		h := unusable[0]
		return false, b.meant(fail("the document of hook %s can't be used, and it may want to be asked. Nothing was done.", h), h)
	}
	return true, q.ask(ctx)
}

// meant adds what a refusal lets people do.
func (b before) meant(f *failure, h verdicts.Hook) *failure {
	scope, document := b.cluster, scopeHooks+"/"+h.Name
	if h.Fleet {
		scope, document = scopeHooks, h.Name
	}
	return f.then("pgctrl get %s %s", scope, document).then("%s --override-hooks (when it is meant all the same)", b.again)
}

// question is a verdict being waited for.
type question struct {
	*app
	before
	client  *store.Client
	key     string
	verdict verdicts.Verdict // the newest that was seen
	created int64
	rev     int64
	said    map[string]string
	server  bool // one led, at the last look
}

// write writes the verdict over the one that was seen.
func (q *question) write(ctx context.Context) error {
	rev, err := q.client.Commit(ctx, []store.Guard{store.ModIs(q.key, q.rev)}, []store.Op{store.Put(q.key, observed.Encode(q.verdict))})
	if err != nil {
		return fmt.Errorf("write %s: %w", q.key, err)
	}
	if q.rev = rev; q.created == 0 {
		q.created = rev
	}
	return nil
}

// errQuestionGone: somebody deleted it.
var errQuestionGone = errors.New("the question to the hooks is gone from etcd")

// ask writes the question and waits for the end of it.
func (q *question) ask(ctx context.Context) error {
	deadline := q.verdict.Deadline // by this host's clock; servers write deadlines by theirs
	patience := min(serverPatience, deadline.Sub(q.verdict.Asked))
	if err := q.write(ctx); err != nil {
		return err
	}
	q.said = map[string]string{}
	p := q.newProgress()
	err := q.wait(ctx, p, deadline.Add(verdictPatience), patience)
	p.end()
	if ctx.Err() != nil {
		q.withdraw(ctx)
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return q.conclude()
}

// wait follows the question until it has a final state, or nobody gives it one.
func (q *question) wait(ctx context.Context, p *progress, end time.Time, patience time.Duration) error {
	running, stop := context.WithCancel(ctx)
	poke := make(chan struct{}, 1)
	m := store.NewMirror(q.client, store.MirrorOptions{Name: "verdict", Prefixes: []string{q.key, q.settings.Layout.ElectionKey()}})
	m.OnChange(func(int64, []store.Change) {
		select {
		case poke <- struct{}{}:
		default:
		}
	})
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(running) }() // it ends with its context and returns nothing worth saying
	defer func() { stop(); <-done }()
	tick := time.NewTicker(tickEvery) // patience is by the clock
	defer tick.Stop()
	led := q.deps.Now()
	for {
		if err := q.look(m); err != nil {
			return err
		}
		q.tell(p)
		now := q.deps.Now()
		if q.server {
			led = now
		}
		switch {
		case q.verdict.State.Final():
			return nil
		case now.Sub(led) > patience:
			return q.decide(ctx, "no pgctrl server runs")
		case now.After(end):
			return q.decide(ctx, "no server asked it")
		}
		select {
		case <-poke:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look takes what the mirror has.
func (q *question) look(m *store.Mirror) error {
	s := m.Snapshot()
	_, q.server = s.Get(q.settings.Layout.ElectionKey())
	e, there := s.Get(q.key)
	switch {
	case there && e.CreateRevision == q.created && e.ModRevision >= q.rev:
		return q.take(e)
	case m.Reached(q.key) >= q.rev && (!there || e.CreateRevision != q.created):
		return q.gone()
	}
	return nil // it has not arrived here yet
}

func (q *question) take(e kv.KV) error {
	v, err := observed.Decode[verdicts.Verdict](e)
	if err != nil {
		return fmt.Errorf("read %s: %w", q.key, err)
	}
	q.verdict, q.rev = v, e.ModRevision
	return nil
}

func (q *question) gone() error {
	return fail("%s: %s. Nothing was done.", q.verdict.ID, errQuestionGone).then("run the command again")
}

// decide ends the question without a server; one that has answered meanwhile is believed.
func (q *question) decide(ctx context.Context, why string) error {
	for {
		q.verdict = verdicts.Overdue(q.verdict, why, q.deps.Now())
		err := q.write(ctx)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		e, there, err := q.client.Get(ctx, q.key)
		switch {
		case err != nil:
			return q.unreachable(err)
		case !there || e.CreateRevision != q.created:
			return q.gone()
		}
		if err := q.take(e); err != nil || q.verdict.State.Final() {
			return err
		}
	}
}

// withdraw takes back a question that nobody waits for any more.
func (q *question) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, _ = q.client.Commit(ctx, []store.Guard{store.CreateIs(q.key, q.created)}, []store.Op{store.Delete(q.key)}) // what stays is asked for nothing, and deleted later
}

// tell says each answer once.
func (q *question) tell(p *progress) {
	var open []string
	for _, h := range q.verdict.Hooks {
		if !h.State.Final() {
			open = append(open, h.String())
		}
		line := string(h.State)
		switch h.State {
		case verdicts.Asking:
			continue
		case verdicts.Allowed, verdicts.Refused:
			line += fmt.Sprintf(" in %d ms", h.TookMS)
		case verdicts.Failed:
			line += ", and is asked again"
		case verdicts.Timeout:
			line = "out of time, which means " + h.OnTimeout
		}
		if h.Message != "" {
			line += ": " + h.Message
		}
		if mark := string(h.State) + h.Message; q.said[h.String()] != mark {
			q.said[h.String()] = mark
			p.came("asking hook %s ... %s", h, line)
		}
	}
	p.waits("asking hook " + strings.Join(open, ", "))
}

// conclude is nil when the command may go on.
func (q *question) conclude() error {
	v := q.verdict
	if v.State == verdicts.Allowed {
		for _, h := range v.Hooks {
			if h.State == verdicts.Timeout {
				q.note("hook %s gave no answer (%s), and on_timeout says that this allows it", h, h.Message)
			}
		}
		return nil
	}
	h, _ := v.Decisive()
	f := fail("%s. Nothing was done.", strings.TrimSuffix(v.Words(), "."))
	if h.State == verdicts.Timeout && !q.server {
		f.then("systemctl start pgctrl-server")
	}
	return q.meant(f, h)
}

// names are those of members, in a sentence.
func names(ms []status.Member) string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Name)
	}
	return strings.Join(out, ", ")
}
