package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// judgeParameters refuses parameters that the running primary would not take, before
// anything is written. When it can't be asked from here that is said, and the agent,
// which asks PostgreSQL too, is the one who refuses.
func (a *app) judgeParameters(ctx context.Context, l *live, scope, document string, fields []desired.FieldChange) error {
	sets := slices.ContainsFunc(fields, func(f desired.FieldChange) bool { return strings.HasPrefix(f.Field, "parameters.") && f.New != "" })
	if document != "postgres" || fleetScope(scope) || !sets {
		return nil
	}
	client, err := a.connect(ctx)
	if err != nil {
		return err
	}
	e, found, err := client.Get(ctx, l.layout.PrimaryKey(scope))
	if err != nil {
		return a.unreachable(err)
	}
	if !found {
		return nil // nobody leads yet: the cluster forms with them, or says why not
	}
	p, err := observed.Decode[observed.Primary](e)
	if err != nil || !p.Writable {
		return nil
	}
	password, _, err := client.Get(ctx, l.layout.Secret(scope, "postgres"))
	if err != nil {
		return a.unreachable(err)
	}
	server, err := a.deps.Settings(ctx, p.Address, p.Port, string(password.Value))
	if err != nil {
		a.note("not checked against the running PostgreSQL (%s); the agent checks before it is applied", lastWords(err))
		return nil
	}
	wrong := desired.JudgeParameters(keyOf(l.layout, scope, document), fields, server)
	if len(wrong) == 0 {
		return nil
	}
	return refused(l, wrong)
}
