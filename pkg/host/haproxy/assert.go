package haproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Assert makes the running worker hold the unit's targets and returns how many
// servers went up or down by it.
//
// Every server held down is told so again each time: it is a lease, which a health
// check would lift otherwise. A server held up is told on an edge (the targets
// changed, or the caller says so), and when it is down although its check passes:
// then somebody put it down by hand, or we did a moment ago. One that is vouched for
// is told so for as long as its check gets no answer. What was set to maint
// or drain by hand is undone (R9), unless the unit says hands off; Repairs tells.
//
// On an edge the state file is rewritten first, so that a reload at any later
// instant starts from these targets, and sessions to read-write servers that are
// held down are ended, unless they stay, in this worker and then, in the background, in old ones.
func (r *Router) Assert(ctx context.Context, unit plan.Unit, edge bool) (moves int, err error) {
	u := r.unit(unit.Unit)
	u.mu.Lock()
	defer u.mu.Unlock()
	edge = edge || u.edge || u.targets == nil || !u.targets.Same(unit.Targets)
	u.targets = unit.Targets

	var fileErr error
	if edge {
		fileErr = r.composeState(ctx, u, unit)
	}
	before, after, err := r.command(ctx, u, unit, edge)
	if err != nil {
		u.edge = true
		return 0, errors.Join(fmt.Errorf("assert routes of %s: %w", unit.Unit, err), fileErr)
	}
	moves = changed(before, after)
	u.edge = fileErr != nil
	if edge {
		r.cutOldWorkers(u, unit)
	}
	return moves, fileErr
}

// composeState writes the state file, or removes one that is no longer true.
func (r *Router) composeState(ctx context.Context, u *unitState, unit plan.Unit) error {
	path := r.StateFile(unit.Unit)
	running, err := r.States(ctx, unit)
	if err != nil {
		running = nil // nothing runs, so there is nothing to keep
	}
	content := Compose(unit.Routes, unit.Targets, running)
	if err := writeState(path, content); err != nil {
		u.written = ""
		return errors.Join(err, removeState(path))
	}
	u.written = content
	return nil
}

// command sends one batch: the states before, what to change, and the states after.
// What the states after it call for beyond that takes a second batch.
func (r *Router) command(ctx context.Context, u *unitState, unit plan.Unit, edge bool) (before, after States, err error) {
	cmds := commands(unit, edge)
	before, after, err = r.run(ctx, u, unit, cmds)
	if before == nil {
		u.last = nil
		return nil, nil, err
	}
	last := u.last
	if edge {
		last = nil // HAProxy may be another process, or told something else by us
	}
	u.last = after
	u.contested = contested(unit, after)
	if found := hands(unit, last, before, after); len(found) > 0 {
		var more []string
		for _, h := range found {
			more = append(more, h.undo...)
		}
		_, repaired, err2 := r.run(ctx, u, unit, more)
		if repaired != nil {
			after, u.last = repaired, repaired
		}
		if err2 == nil {
			u.undid(found)
		}
		err = errors.Join(err, err2)
	}
	return before, after, err
}

// Contested reports whether the last Assert found a read-write server that is held up
// although its check gets no answer.
func (r *Router) Contested(unit string) bool {
	u := r.unit(unit)
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.contested
}

func contested(unit plan.Unit, now States) (found bool) {
	each(unit, func(role plan.RouteRole, path string, _ plan.RouteServer, t plan.Target) {
		backend, server, _ := strings.Cut(path, "/")
		st, ok := now.get(backend, server)
		found = found || ok && role == plan.RoutePrimary && t.Held.HoldsUp() && st.silent()
	})
	return found
}

func (r *Router) run(ctx context.Context, u *unitState, unit plan.Unit, cmds []string) (before, after States, err error) {
	const show = "show servers state"
	all := append(append([]string{show}, cmds...), show)
	answers, err := batch(ctx, r.admin(unit.Unit), all...)
	if err != nil {
		return nil, nil, err
	}
	if before, err = u.parse(answers[0]); err != nil {
		return nil, nil, err
	}
	if after, err = u.parse(answers[len(answers)-1]); err != nil {
		return nil, nil, err
	}
	for i, a := range answers[1 : len(answers)-1] {
		if refused(cmds[i], a) {
			err = errors.Join(err, fmt.Errorf("%w: %s: %s", ErrReply, cmds[i], a))
		}
	}
	return before, after, err
}

// commands says what to send whatever the states are. Downs come first: between
// two commands of a batch no connection may find two servers up.
func commands(unit plan.Unit, edge bool) []string {
	var downs, cuts, ups []string
	each(unit, func(role plan.RouteRole, path string, _ plan.RouteServer, t plan.Target) {
		switch {
		case t.Held == plan.Down:
			downs = append(downs, "set server "+path+" health down")
			if edge && role == plan.RoutePrimary && !t.Stay {
				cuts = append(cuts, "shutdown sessions server "+path)
			}
		case t.Held == plan.Insist, t.Held.HoldsUp() && edge:
			ups = append(ups, "set server "+path+" health up")
		}
	})
	return append(append(downs, ups...), cuts...)
}

// refused reports whether an answer is a no. Success is silent, but for a change of
// address, which is confirmed in words.
func refused(command, answer string) bool {
	return answer != "" && !(strings.Contains(command, " addr ") && strings.Contains(answer, "changed from"))
}

// each visits the servers in a fixed order. Servers without a target are left out.
func each(unit plan.Unit, visit func(role plan.RouteRole, path string, s plan.RouteServer, t plan.Target)) {
	for _, backend := range backends(unit.Routes) {
		route := unit.Routes[backend]
		for _, s := range route.Servers {
			if t, ok := unit.Targets[backend][s.Name]; ok {
				visit(route.Role, backend+"/"+s.Name, s, t)
			}
		}
	}
}

// changed counts servers that went up or down between two readings.
func changed(before, after States) int {
	n := 0
	for backend, servers := range after {
		for name, st := range servers {
			if old, ok := before.get(backend, name); ok && old.Up != st.Up {
				n++
			}
		}
	}
	return n
}
