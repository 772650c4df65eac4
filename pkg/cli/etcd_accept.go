package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	hostpatroni "github.com/pgctrl/pgctrl/pkg/host/patroni"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// acceptWord is what a person types to accept a store.
const acceptWord = "accept"

func (a *app) etcdAccept() *cobra.Command {
	var force bool
	var wait time.Duration
	c := &cobra.Command{
		Use: "accept", Short: "Accept an etcd that was restored, went back in time, or is another one", Args: cobra.NoArgs,
		Long: `Agents and servers hold still while etcd is not the one they know: databases and
routes go on, nothing is planned, acquired or removed. This shows what differs and
how old the data is, and looks at every cluster: its leader key must name the one
member that takes writes. Then the word "accept" is to be typed, and etcd gets a
new incarnation that every agent takes in the place of the one it knew.

From then on the documents as they are in this etcd count. Look at them first:
what was changed since the snapshot is not in it.`,
		Example: "  pgctrl etcd accept\n  echo accept | pgctrl etcd accept",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.acceptStore(cmd.Context(), force, wait) },
	}
	c.Flags().BoolVar(&force, "force", false, "also when a cluster's leader can't be read or is not the one in the key")
	c.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait until the agents took it")
	return c
}

// acceptance is what there is to accept.
type acceptance struct {
	record   observed.Store
	key      kv.KV
	revision int64
	// knows is what agents trust in the place of this store, by node; present is how
	// many agents there are.
	knows   map[string]observed.StoreSeen
	present int
}

func (a *app) acceptStore(ctx context.Context, force bool, wait time.Duration) error {
	l, err := a.read(ctx, keys.Store, keys.Alive, keys.Formed, keys.Desired, keys.PatroniKey, keys.Primary)
	if err != nil {
		return err
	}
	now, err := gather(l)
	if err != nil {
		return err
	}
	if now.record.Restored == nil && len(now.knows) == 0 {
		a.say("nothing to accept: incarnation %s is the one that all %d present agents know", now.record.Incarnation, now.present)
		return nil
	}
	a.showAcceptance(now)
	if err := a.lookAtLeaders(ctx, l, force); err != nil {
		return err
	}
	if err := a.typed(acceptWord); err != nil {
		return err
	}
	var others []string
	for _, seen := range now.knows {
		others = append(others, seen.Incarnation)
	}
	slices.Sort(others)
	next := now.record.Accept(store.NewIncarnation(), others...)
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	rev, err := c.Commit(ctx, []store.Guard{store.ModIs(now.key.Key, now.key.ModRevision)}, []store.Op{store.Put(now.key.Key, observed.Encode(next))})
	if err != nil {
		return err
	}
	a.say("accepted incarnation %s (revision %d)", next.Incarnation, rev)
	return a.awaitTaken(ctx, c, next, wait)
}

func gather(l *live) (acceptance, error) {
	key := l.layout.StoreKey()
	now := acceptance{key: kv.KV{Key: key}, revision: l.Revision(), knows: map[string]observed.StoreSeen{}}
	if e, ok := l.Get(key); ok {
		rec, err := observed.Decode[observed.Store](e)
		if err != nil {
			return now, err
		}
		now.key, now.record = e, rec
	}
	for _, node := range l.present() {
		if alive, ok := l.alive(node); ok {
			now.present++
			if alive.Store != nil && (alive.Store.Incarnation == now.record.Incarnation || !now.record.Stands(alive.Store.Incarnation)) {
				now.knows[node] = *alive.Store
			}
		}
	}
	return now, nil
}

func (a *app) showAcceptance(now acceptance) {
	at := a.deps.Now()
	t := newTable(a.out, "", "INCARNATION", ">REVISION", "AGE")
	if r := now.record.Restored; r != nil {
		t.row("the snapshot", "", fmt.Sprint(r.Revision), shortly(at.Sub(r.Taken)))
	}
	t.row("etcd now", orDash(now.record.Incarnation), fmt.Sprint(now.revision), "0 s")
	for _, node := range sortedKeys(now.knows) {
		seen := now.knows[node]
		t.row("known on "+node, orDash(seen.Incarnation), fmt.Sprint(seen.Revision), shortly(at.Sub(seen.At)))
	}
	t.write(a.Out)
	if r := now.record.Restored; r != nil {
		a.say("What was written in the last %s is not in it.", shortly(at.Sub(r.Taken)))
	}
}

// lookAtLeaders shows every cluster's leader key beside the member that takes
// writes, and refuses when the two are not one (R14).
func (a *app) lookAtLeaders(ctx context.Context, l *live, force bool) error {
	t := newTable(a.out, "CLUSTER", "LEADER KEY", "TAKES WRITES", "")
	var doubts []string
	for _, name := range l.names(keys.PatroniKey, func(r keys.Ref) string { return r.Cluster }) {
		leader := ""
		if e, ok := l.Get(l.layout.Leader(name)); ok {
			leader = string(e.Value)
		}
		writers, silent := a.writers(ctx, l, name)
		word := a.out.green("one")
		if leader == "" || len(writers) != 1 || writers[0] != leader {
			doubts, word = append(doubts, name), a.out.red("unclear")
		}
		if len(silent) > 0 {
			word += ", no answer from " + strings.Join(silent, ", ")
		}
		t.row(name, orDash(leader), orDash(strings.Join(writers, ", ")), word)
	}
	t.write(a.Out)
	if len(doubts) == 0 || force {
		return nil
	}
	return fail("it is not clear who leads %s. Nothing was changed; agents and routes go on as they are.", strings.Join(doubts, ", ")).
		then("pgctrl etcd accept (once Patroni has settled; its lease is over after 30 s)").
		then("pgctrl etcd accept --force (when these clusters are known to be down)")
}

// writers asks the members that Patroni's keys name which of them takes writes.
func (a *app) writers(ctx context.Context, l *live, cluster string) (writers, silent []string) {
	members := map[string]patroni.Member{}
	for _, e := range l.Range(l.layout.Members(cluster)) {
		name := strings.TrimPrefix(e.Key, l.layout.Members(cluster))
		if m, err := patroni.ParseMember(name, e.Value); err == nil {
			members[name] = m
		}
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		st, err := a.deps.Patroni(ctx, members[name].APIURL)
		switch {
		case err != nil:
			silent = append(silent, name)
		case st.TakesWrites():
			writers = append(writers, name)
		}
	}
	return writers, silent
}

// askPatroni asks the Patroni whose REST API has the given address.
func askPatroni(ctx context.Context, api string) (patroni.Status, error) {
	u, err := url.Parse(api)
	if err != nil {
		return patroni.Status{}, err
	}
	c := hostpatroni.Client{URL: u.Scheme + "://" + u.Host}
	answer, err := c.Status(ctx)
	return answer.Status, err
}

// typed has a person type a word; anything else ends the command.
func (a *app) typed(word string) error {
	fmt.Fprintf(a.Err, "type %q to go on: ", word)
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(line) != word {
		return fail("the word was not typed. Nothing was changed.")
	}
	return nil
}

// awaitTaken waits until every present agent trusts the store.
func (a *app) awaitTaken(ctx context.Context, c *store.Client, rec observed.Store, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := a.deps.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var waiting []string
	for {
		es, _, err := c.List(ctx, a.settings.Layout.Prefix(keys.Alive))
		if err == nil {
			waiting = nil
		}
		for _, e := range es {
			if alive, err := observed.Decode[observed.Alive](e); err == nil && alive.Store != nil {
				waiting = append(waiting, alive.Node)
			}
		}
		if err == nil && len(waiting) == 0 {
			a.note("taken by %d of %d agents in %d ms", len(es), len(es), a.deps.Now().Sub(began).Milliseconds())
			return nil
		}
		select {
		case <-ctx.Done():
			a.note("not taken yet by %s; it goes on", strings.Join(waiting, ", "))
			a.note("  next: %s", a.err.bold("pgagent status (on "+strings.Join(waiting, ", ")+")"))
			return exitCode(NotConverged)
		case <-tick.C:
		}
	}
}

func kvOf(value []byte) kv.KV { return kv.KV{Value: value} }
