package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// tokenTTL is how long a command that died keeps others from disrupting its cluster. One
// that was only stopped (SIGSTOP, ^Z) for longer has lost the token, and its next step is
// not written.
const tokenTTL = 10 * time.Second

// token is the right to disrupt a cluster, for as long as the command runs.
type token struct {
	*store.Leadership
	key string
}

// heldBy refuses while somebody else disrupts the cluster.
func (a *app) heldBy(s kv.Snapshot, cluster string) error {
	h, held := operations.TokenHolder(s, a.settings.Layout, cluster)
	if _, there := s.Get(a.settings.Layout.TokenKey(cluster)); !held && !there {
		return nil
	}
	return a.alreadyHeld(cluster, h)
}

// alreadyHeld names the holder; of one that can't be read nothing is known but that it is.
func (a *app) alreadyHeld(cluster string, h operations.Holder) error {
	who := "something that this program can't read"
	if h.Operation != "" {
		who = fmt.Sprintf("%s, by %s since %s", h.Operation, orDash(h.By), h.Since.Format(time.RFC3339))
	}
	return fail("%s is being disrupted already: %s; one at a time. Nothing was done.", cluster, who).
		then("pgctrl operation list %s", cluster).then("pgctrl status %s", cluster)
}

// takeToken takes the cluster's token for an act, or says who has it. Whoever gets it
// gives it back with release.
func (a *app) takeToken(ctx context.Context, cluster string, act plan.Act) (*token, error) {
	client, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	now := a.deps.Now()
	h := operations.Holder{
		Operation: fmt.Sprintf("%s-%s", act, strconv.FormatInt(now.UnixMilli(), 36)),
		By:        whoami(a.deps.Getenv), Since: now.UTC().Truncate(time.Second),
	}
	t := &token{key: a.settings.Layout.TokenKey(cluster)}
	t.Leadership, err = client.Take(ctx, t.key, string(observed.Encode(h)), tokenTTL)
	switch {
	case errors.Is(err, store.ErrTaken):
		l, err := a.read(ctx, statusFamilies...)
		if err != nil {
			return nil, err
		}
		if err := a.heldBy(l, cluster); err != nil {
			return nil, err
		}
		// It went in between; who comes next is for a person to decide.
		return nil, fail("%s was being disrupted until a moment ago. Nothing was done.", cluster).then("run the command again")
	case err != nil:
		return nil, err
	}
	return t, nil
}

// release gives the token back, also when the command was interrupted.
func (t *token) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = t.Resign(ctx) // what is not given back ends with its lease
}

// lost reports a commit that failed because the token is not ours any more.
func (t *token) lost(err error) bool {
	var c *store.Conflict
	return errors.As(err, &c) && c.Key == t.key
}
