package haproxy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// header names the columns of the server-state file. HAProxy reads by position;
// the line is a comment to it.
const header = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight " +
	"srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state " +
	"bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port"

// Operational states of a server, and the result of its last check.
const (
	opStopped = 0
	opRunning = 2

	checkFailed = 2
	checkPassed = 3 // or 4, passed with a condition

	// What a check ended with when nobody answered it: no connection in time, refused,
	// no answer in time. HAProxy 2.6 and 3.0 have the same numbers.
	checkL4Timeout = 7
	checkL4Refused = 8
	checkL7Timeout = 12

	// Bits of a check's state.
	checkConfigured = 0x02
	checkEnabled    = 0x04

	adminMaint = 0x01 // set maint by hand
	adminDrain = 0x08 // drained by hand
)

// State is what one server of a running HAProxy is doing.
type State struct {
	// Up: new connections may be sent to it (it may be on its way down or up).
	Up bool `json:"up"`
	// Checked: its last health check passed.
	Checked bool `json:"checked"`
	// Maint and Drain were set by hand, since nothing of pgctrl sets them.
	Maint bool `json:"maint,omitempty"`
	Drain bool `json:"drain,omitempty"`

	op, admin, weight, health, sinceChange, checkStatus, checkResult, checkState, port int

	addr string
}

// silent: the last health check that ended got no answer. That is no word about the
// server; 503 would be one.
func (s State) silent() bool {
	return s.checkStatus == checkL4Timeout || s.checkStatus == checkL4Refused || s.checkStatus == checkL7Timeout
}

// States maps backend and server names to states.
type States map[string]map[string]State

func (s States) get(backend, server string) (State, bool) {
	st, ok := s[backend][server]
	return st, ok
}

// parseStates reads `show servers state` of 2.6 to 3.0 (format 1).
func parseStates(text string) (States, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if strings.TrimSpace(lines[0]) != "1" {
		return nil, fmt.Errorf("parse show servers state: format %q is not 1", lines[0])
	}
	out := States{}
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 19 {
			return nil, fmt.Errorf("parse show servers state: line %q has %d columns", line, len(f))
		}
		var s State
		for i, to := range map[int]*int{5: &s.op, 6: &s.admin, 7: &s.weight, 9: &s.sinceChange,
			10: &s.checkStatus, 11: &s.checkResult, 12: &s.health, 13: &s.checkState, 18: &s.port} {
			n, err := strconv.Atoi(f[i])
			if err != nil {
				return nil, fmt.Errorf("parse show servers state: line %q: column %d: %w", line, i+1, err)
			}
			*to = n
		}
		s.addr = f[4]
		s.Maint, s.Drain = s.admin&adminMaint != 0, s.admin&adminDrain != 0
		s.Up = s.op != opStopped && !s.Maint && !s.Drain
		s.Checked = s.checkResult >= checkPassed
		if out[f[1]] == nil {
			out[f[1]] = map[string]State{}
		}
		out[f[1]][f[3]] = s
	}
	return out, nil
}

// sameStates reports whether two answers to `show servers state` differ in nothing but
// the seconds since each server's last change, which pass anyhow.
func sameStates(a, b string) bool {
	const since = 9 // the column
	for a != "" && b != "" {
		var lineA, lineB string
		lineA, a, _ = strings.Cut(a, "\n")
		lineB, b, _ = strings.Cut(b, "\n")
		for column := 0; lineA != "" || lineB != ""; column++ {
			var fieldA, fieldB string
			fieldA, lineA, _ = strings.Cut(lineA, " ")
			fieldB, lineB, _ = strings.Cut(lineB, " ")
			if fieldA != fieldB && column != since {
				return false
			}
		}
	}
	return a == b
}

// starting is the state a server begins with when nothing is known of it. HAProxy
// cuts a health beyond the maximum to the maximum, so an up server starts with full
// credit whatever rise and fall are.
func starting(up bool) State {
	if up {
		return State{Up: true, op: opRunning, health: fullCredit, checkStatus: checkInitial}
	}
	return State{op: opStopped, checkStatus: checkInitial}
}

const (
	fullCredit = 1000
	// checkInitial is "no check has run yet". The 0 that suggests itself is
	// "unknown", with which 2.6 never starts the server's checks (measured): a
	// server would keep its first state forever.
	checkInitial = 1
)

// line is the server's line of the state file. HAProxy matches by name when ids
// are not forced, so ids are 0. Address, ports and weight are the plan's and never
// the running worker's: 2.6 lets the file overrule the configuration, and a server
// that moved would stay where it was (measured). What was set by hand does not
// survive a reload either. srv_check_state 6 is configured and enabled; the agent
// port is 0 because no server has an agent check.
func (s State) line(backend string, r plan.RouteServer) string {
	return fmt.Sprintf("0 %s 0 %s - %d 0 %d %d %d %d %d %d 6 0 0 0 - %d - 0 %d - - 0",
		backend, r.Name, s.op, r.Weight, r.Weight, s.sinceChange,
		max(s.checkStatus, checkInitial), s.checkResult, s.health, r.Port, r.CheckPort)
}
