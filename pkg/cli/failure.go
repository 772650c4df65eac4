package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/near"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// failure is an error as people see it: one line of cause and the commands that
// help. Nothing else of an error chain is printed.
type failure struct {
	cause string
	next  []string
}

// Error implements error.
func (f *failure) Error() string { return f.cause }

// fail makes a failure.
func fail(format string, args ...any) *failure {
	return &failure{cause: fmt.Sprintf(format, args...)}
}

// then adds the next command.
func (f *failure) then(format string, args ...any) *failure {
	f.next = append(f.next, fmt.Sprintf(format, args...))
	return f
}

// exitCode ends the program with a code when everything has been said already.
type exitCode int

// Error implements error.
func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// explain turns an error that no command has given words to into a failure.
func (a *app) explain(err error) *failure {
	switch {
	case errors.Is(err, store.ErrConflict):
		return fail("somebody else changed the same documents at the same moment. Nothing was written.").then("run the command again")
	case errors.Is(err, store.ErrNoSpace):
		return fail("etcd is full; it refuses every write but deletions. Nothing was written.").then("pgctrl etcd compact")
	case errors.Is(err, context.DeadlineExceeded):
		return a.unreachable(err)
	case errors.Is(err, os.ErrPermission):
		return fail("%s; this needs root", lastWords(err))
	}
	return fail("%s", err)
}

// unreachable says that etcd did not answer, and what to look at.
func (a *app) unreachable(err error) *failure {
	at := strings.Join(a.settings.Endpoints, ", ")
	if errors.Is(err, store.ErrServerTooOld) {
		return fail("%s", err)
	}
	f := fail("etcd at %s does not answer: %s", at, lastWords(err))
	if a.settings.source("endpoints") == sourceDefault {
		return f.then("pgctrl init (sets up etcd and the server on this host), or PGCTRL_ENDPOINTS=http://<host>:2379")
	}
	if local(a.settings.Endpoints) {
		return f.then("systemctl status pgctrl-etcd")
	}
	return f.then("pgctrl config dump (shows where the endpoints come from)")
}

func local(endpoints []string) bool {
	for _, e := range endpoints {
		host := strings.TrimPrefix(strings.TrimPrefix(e, "http://"), "https://")
		if h, _, err := net.SplitHostPort(host); err == nil && (h == "localhost" || net.ParseIP(h).IsLoopback()) {
			return true
		}
	}
	return false
}

// lastWords is the innermost cause of an error: what the operating system or the
// server said, without the layers that carried it.
func lastWords(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	s := err.Error()
	for _, known := range []string{"connection refused", "no route to host", "network is unreachable", "no such host", "i/o timeout"} {
		if strings.Contains(s, known) {
			return known
		}
	}
	if i := strings.LastIndex(s, "desc = "); i >= 0 {
		s = s[i+len("desc = "):]
	}
	return strings.Trim(s, `"`)
}

// didYouMean ends a sentence with the name that was probably meant.
func didYouMean(typed string, names []string) string {
	if n, ok := near.Miss(typed, names); ok {
		return "; did you mean " + n + "?"
	}
	return ""
}

// endMeaning is didYouMean for a sentence that another one follows.
func endMeaning(typed string, names []string) string { return cmp.Or(didYouMean(typed, names), ".") }

// oneOf lists choices in a sentence.
func oneOf(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// plural is "1 key", "2 keys".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
