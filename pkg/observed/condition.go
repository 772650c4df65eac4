// Package observed is what is: the reports of agents, the confirmed primary, and
// the conditions that say why something is not done. Types and pure functions
// only; it imports no driver and no etcd.
package observed

//go:generate go run ./internal/gen ../../docs/conditions.md

import (
	"fmt"
	"sort"
)

// Status is the truth of a condition.
type Status string

// The three answers. Unknown is its own answer: a program that could not be
// asked has neither accepted nor rejected anything.
const (
	True    Status = "True"
	False   Status = "False"
	Unknown Status = "Unknown"
)

// Type names what a condition is about.
type Type string

// The condition types.
const (
	Valid      Type = "Valid"
	Planned    Type = "Planned"
	Applied    Type = "Applied"
	Healthy    Type = "Healthy"
	HasPrimary Type = "Primary"
)

// Types explains every type, in the order in which a change passes them.
var Types = []struct {
	Type    Type
	Meaning string
}{
	{Valid, "the documents can be read and agree with one another"},
	{Planned, "the controllers have turned the documents into plans"},
	{Applied, "the host is what the plan says"},
	{Healthy, "what was applied works"},
	{HasPrimary, "the cluster has a confirmed primary"},
}

// Reason is why a condition is not true: one word for machines (R12). Every
// reason the program can give is listed here and described in reasons.go.
type Reason string

// Condition is one answer with its reason.
type Condition struct {
	Type   Type   `json:"type"`
	Status Status `json:"status"`
	Reason Reason `json:"reason,omitempty"`
	// Message is one sentence for people: what was found, and what was expected.
	Message string `json:"message,omitempty"`
	// Next is the command to run next, when there is one.
	Next string `json:"next,omitempty"`
	// Key is the etcd key that caused it, when one did.
	Key string `json:"key,omitempty"`
}

// Bad reports whether the condition needs somebody's attention or patience.
func (c Condition) Bad() bool { return c.Status != True }

// String is the condition on one line.
func (c Condition) String() string {
	s := fmt.Sprintf("%s=%s", c.Type, c.Status)
	if c.Reason != "" {
		s += " " + string(c.Reason)
	}
	if c.Message != "" {
		s += ": " + c.Message
	}
	return s
}

// Sort orders conditions so that equal sets are equal bytes.
func Sort(cs []Condition) {
	sort.SliceStable(cs, func(i, j int) bool {
		a, b := cs[i], cs[j]
		if a.Type != b.Type {
			return a.Type < b.Type
		}
		if a.Key != b.Key {
			return a.Key < b.Key
		}
		return a.Message < b.Message
	})
}
