package verdicts

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pgctrl/pgctrl/pkg/hooks"
)

// Question is what a hook gets (docs/HOOKS.md): the envelope of an event's delivery, with
// before in the place of event.
type Question struct {
	Schema int    `json:"schema"`
	Hook   string `json:"hook"`
	// Cluster is whose hook it is; Fleet of one of all clusters. Before has its own.
	Cluster string `json:"cluster"`
	// Attempt counts from 1.
	Attempt int    `json:"attempt"`
	Before  Before `json:"before"`
}

// Before is what somebody is about to do.
type Before struct {
	ID        string `json:"id"`
	Cluster   string `json:"cluster"`
	Operation string `json:"operation"`
	Subject   string `json:"subject"`
	By        string `json:"by"`
	Why       string `json:"why,omitempty"`
	// Deadline is until when an answer counts, by the server's clock.
	Deadline time.Time `json:"deadline"`
}

// Ask is the question to one hook of a scope.
func (v Verdict) Ask(h Hook, scope string) Question {
	return Question{
		Schema: Schema, Hook: h.Name, Cluster: scope, Attempt: h.Tries + 1,
		Before: Before{ID: v.ID, Cluster: v.Cluster, Operation: v.Operation, Subject: v.Subject, By: v.By, Why: v.Why, Deadline: h.Deadline.UTC()},
	}
}

// HeaderBefore has the operation, and is what tells a question from an event. HeaderID has its
// name, <cluster>/<id>.
const (
	HeaderBefore = "Pgctrl-Before"
	HeaderID     = "Pgctrl-Verdict-Id"
)

// Headers are those of one attempt, signed as those of events are.
func (q Question) Headers(version string, now time.Time, body, secret []byte) map[string]string {
	stamp := strconv.FormatInt(now.Unix(), 10)
	out := map[string]string{
		"Content-Type": "application/json", "User-Agent": "pgctrl/" + version,
		HeaderBefore: q.Before.Operation, HeaderID: q.Before.Cluster + "/" + q.Before.ID,
		hooks.HeaderHook: q.Hook, hooks.HeaderTimestamp: stamp,
	}
	if len(secret) > 0 {
		out[hooks.HeaderSignature] = hooks.Sign(secret, stamp, body)
	}
	return out
}

// Answer is what one attempt came to: Allowed, Refused, Delayed for a while, or Failed.
type Answer struct {
	State   State
	Message string
	After   time.Duration
}

const (
	// maxWords is how much of what a hook says is kept.
	maxWords = 200
	// delay is how long a hook is left alone that does not say for how long.
	delay = 5 * time.Second
	// leastDelay keeps one that says "at once" from being asked in a loop.
	leastDelay = 200 * time.Millisecond
	// exitDelay is the exit code of a program that wants to be asked again (EX_TEMPFAIL).
	exitDelay = 75
)

// ReadHTTP is what a webhook's answer means. The status is believed first: a body can make a
// success a refusal, and never the other way round. What is not understood allows nothing.
func ReadHTTP(status int, retryAfter string, body []byte, whole bool) Answer {
	var said struct {
		Verdict string `json:"verdict"`
		Message string `json:"message"`
		After   string `json:"after"`
	}
	understood := whole && json.Unmarshal(body, &said) == nil
	message := words(body)
	if understood {
		message = words([]byte(said.Message))
	}
	after, waits := retry(retryAfter)
	answers := fmt.Sprintf("the receiver answers %d", status)
	switch {
	case status == 403 || status == 409:
		return Answer{State: Refused, Message: message}
	case (status == 429 || status == 503) && waits:
		return Answer{State: Delayed, Message: message, After: after}
	case status < 200 || status > 299:
		return Answer{State: Failed, Message: strings.TrimSuffix(answers+": "+message, ": ")}
	case !whole:
		return Answer{State: Failed, Message: answers + " and more than an answer may be long"}
	case understood && said.Verdict == "refuse":
		return Answer{State: Refused, Message: message}
	case understood && said.Verdict == "delay":
		if d, err := time.ParseDuration(said.After); err == nil {
			after = d
		}
		return Answer{State: Delayed, Message: message, After: max(after, leastDelay)}
	case understood && said.Verdict == "allow":
		return Answer{State: Allowed, Message: message}
	case len(strings.TrimSpace(string(body))) > 0:
		return Answer{State: Failed, Message: answers + " with something that is no verdict: " + words(body)}
	case status == 202:
		return Answer{State: Delayed, After: after}
	}
	return Answer{State: Allowed}
}

// retry reads Retry-After in seconds; its other form, a date, is nothing that receivers send.
func retry(header string) (time.Duration, bool) {
	n, err := strconv.Atoi(strings.TrimSpace(header))
	if err != nil || n < 0 {
		return delay, false
	}
	return max(leastDelay, time.Duration(min(n, 3600))*time.Second), true
}

// ReadExit is what the end of a program means: 0 allows, 1 refuses with the first line of what it
// wrote, 75 wants to be asked again. Others are failures of the program, as is a signal.
func ReadExit(code int, output string) Answer {
	first, _, _ := strings.Cut(strings.TrimSpace(output), "\n")
	message := words([]byte(first))
	switch code {
	case 0:
		return Answer{State: Allowed, Message: message}
	case 1:
		return Answer{State: Refused, Message: message}
	case exitDelay:
		return Answer{State: Delayed, Message: message, After: delay}
	}
	return Answer{State: Failed, Message: strings.TrimSuffix(fmt.Sprintf("the program ended with exit code %d: %s", code, message), ": ")}
}

// Failing is an attempt that came to nothing.
func Failing(why string) Answer { return Answer{State: Failed, Message: words([]byte(why))} }

// Wait is how long to wait after the nth attempt that failed: half a second, doubled up to five.
// Somebody is waiting for the answer, so it is shorter than between events.
func Wait(try int) time.Duration {
	if try > 4 {
		return 5 * time.Second
	}
	return min(5*time.Second, 500*time.Millisecond<<max(0, try-1))
}

// words are the beginning of a text, on one line and without what a terminal would obey.
func words(b []byte) string {
	s := strings.ToValidUTF8(string(b[:min(len(b), maxWords)]), "")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}
