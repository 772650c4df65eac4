package haproxy

import (
	"fmt"
	"net"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Hand is one thing that somebody set by hand in the running HAProxy and that was
// put back. HAProxy tells nobody about such things, so every Assert looks.
type Hand struct {
	// Server is backend/server.
	Server string
	// Was is what it had been set to, as in "maint" or "weight 0".
	Was string

	undo []string
}

// Repairs returns what was set by hand in a unit's HAProxy and put back since the
// last call.
func (r *Router) Repairs(unit string) []Hand {
	u := r.unit(unit)
	u.mu.Lock()
	defer u.mu.Unlock()
	out := u.undone
	u.undone = nil
	return out
}

// maxUndone bounds what waits for Repairs when nobody asks.
const maxUndone = 100

func (u *unitState) undid(found []Hand) {
	for _, h := range found {
		if h.Was != "" && len(u.undone) < maxUndone {
			u.undone = append(u.undone, h)
		}
	}
}

// hands says what the states call for. before and now are the states before and
// after this Assert's own commands, last those at the end of the one before, nil
// when they say nothing about now.
//
// A server held up that is down although its check passes is put up whoever put it
// down; that it was a person's hand is only claimed when it was up the last time and
// nobody else can have been it.
func hands(unit plan.Unit, last, before, now States) []Hand {
	if unit.HandsOff {
		return nil
	}
	var out []Hand
	each(unit, func(role plan.RouteRole, path string, srv plan.RouteServer, t plan.Target) {
		backend, server, _ := strings.Cut(path, "/")
		st, ok := now.get(backend, server)
		if !ok {
			return
		}
		found := func(was string, undo ...string) {
			for i := range undo {
				undo[i] = "set server " + path + " " + undo[i]
			}
			out = append(out, Hand{Server: path, Was: was, undo: undo})
		}
		set := st.Maint || st.Drain
		switch {
		case set && t.Held == plan.Down: // leaving maint means up until a check fails
			found(st.adminWord(), "state ready", "health down")
		case set:
			found(st.adminWord(), "state ready")
		}
		was, seen := last.get(backend, server)
		old, _ := before.get(backend, server)
		switch h := health(role, t, was, old, st); {
		case t.Held == plan.Vouch && st.silent():
			found("", "health up")
		case seen && h.was != "":
			found(h.was, h.undo)
		case t.Held.HoldsUp() && !st.Up && (st.Checked || set):
			found("", "health up")
		}
		if st.checkState&checkConfigured != 0 && st.checkState&checkEnabled == 0 {
			out = append(out, Hand{Server: path, Was: "checks off", undo: []string{"enable health " + path}})
		}
		if srv.Weight > 0 && st.weight != srv.Weight {
			found(fmt.Sprintf("weight %d", st.weight), fmt.Sprintf("weight %d", srv.Weight))
		}
		if net.ParseIP(srv.Address) != nil && (st.addr != srv.Address || st.port != srv.Port) {
			found("addr "+net.JoinHostPort(st.addr, fmt.Sprint(st.port)), fmt.Sprintf("addr %s port %d", srv.Address, srv.Port))
		}
	})
	return out
}

func (s State) adminWord() string {
	if s.Maint {
		return "maint"
	}
	return "drain"
}

// set is a state of health set by hand, and what undoes it; empty: there is none.
type set struct{ was, undo string }

// health tells a server put up or down by hand from one that its check moved. A
// check that fails leaves the result "failed" behind, one that passes leaves credit;
// a hand that puts a server down leaves the result "passed" without any credit, and
// one that puts it up leaves it up after a failure. Both only count as seen from the
// state before: what we held down and now leave to the checks looks the same.
func health(role plan.RouteRole, t plan.Target, was, before, now State) set {
	down := was.Up && !now.Up && !now.Maint && !now.Drain && now.Checked && now.health == 0
	up := !was.Up && !was.Maint && !was.Drain && before.Up && before.checkResult == checkFailed
	switch {
	case t.Held.HoldsUp() && down:
		return set{"health down", "health up"}
	case t.Held == plan.Down && up:
		return set{"health up", "health down"} // it was told so already, and is again
	case t.Held != plan.Leave || t.Start != plan.Up || role == plan.RoutePrimary:
		return set{} // nobody here knows better than the checks
	case down:
		return set{"health down", "health up"}
	case up:
		return set{"health up", "health down"}
	}
	return set{}
}
