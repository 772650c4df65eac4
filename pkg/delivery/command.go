package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
)

// command has a program run for each event.
type command struct {
	hook      *desired.Hook
	scope     string
	commander Commander
}

func (c *command) close() {}

// attemptIn is the attempt that a body is of.
func attemptIn(body []byte) int {
	var b hooks.Body
	_ = json.Unmarshal(body, &b) // it is our own
	return b.Attempt
}

// send implements sender.
func (c *command) send(ctx context.Context, e events.Event, body, _ []byte) *failed {
	if c.commander == nil {
		return &failed{text: "this server runs no commands"}
	}
	err := c.commander.Run(ctx, Order{
		Hook: c.hook.Name, Scope: c.scope, Cluster: e.Cluster, ID: e.ID, Kind: string(e.Kind), Attempt: attemptIn(body), On: c.hook.Command.On,
		Program: c.hook.Command.Program, Arguments: c.hook.Command.Arguments, Input: body, Timeout: time.Duration(c.hook.Timeout),
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return &failed{text: fmt.Sprintf("%s did not end within %s", c.hook.Command.Program, c.hook.Timeout)}
	}
	return &failed{text: quoted([]byte(err.Error()))}
}
