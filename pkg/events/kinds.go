package events

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/near"
)

// Kind is what sort of thing happened: a family and a word, as in leader.changed.
type Kind string

// The kinds. Each is explained in Kinds.
const (
	DocumentChanged  Kind = "document.changed"
	DocumentRemoved  Kind = "document.removed"
	DocumentRefused  Kind = "document.refused"
	DocumentAccepted Kind = "document.accepted"

	LeaderLost       Kind = "leader.lost"
	LeaderChanged    Kind = "leader.changed"
	PrimaryConfirmed Kind = "primary.confirmed"
	PrimaryWithdrawn Kind = "primary.withdrawn"

	RouteMoved  Kind = "route.moved"
	VIPTaken    Kind = "vip.taken"
	VIPReleased Kind = "vip.released"
	PoolerUp    Kind = "pooler.up"
	PoolerDown  Kind = "pooler.down"
	DNSMoved    Kind = "dns.moved"

	MemberLost    Kind = "member.lost"
	MemberBack    Kind = "member.back"
	AgentLost     Kind = "agent.lost"
	AgentBack     Kind = "agent.back"
	ServerLost    Kind = "server.lost"
	ServerBack    Kind = "server.back"
	ServerLeads   Kind = "server.leads"
	StreamGap     Kind = "stream.gap"
	ApplyFailed   Kind = "apply.failed"
	ApplyDone     Kind = "apply.done"
	HealthLost    Kind = "health.lost"
	HealthBack    Kind = "health.back"
	DriftRepaired Kind = "drift.repaired"
	DriftReturns  Kind = "drift.returns"

	OperationAsked     Kind = "operation.asked"
	OperationPhase     Kind = "operation.phase"
	OperationDone      Kind = "operation.done"
	OperationFailed    Kind = "operation.failed"
	OperationCancelled Kind = "operation.cancelled"
	// Before an operation begins; see package verdicts.
	OperationVetoed     Kind = "operation.vetoed"
	OperationOverridden Kind = "operation.overridden"
	BackupDone          Kind = "backup.done"
	BackupFailed        Kind = "backup.failed"

	HookFailing Kind = "hook.failing"
	HookBack    Kind = "hook.back"
	HookDead    Kind = "hook.dead"
	HookMissed  Kind = "hook.missed"
	HookTest    Kind = "hook.test"
)

// Described is a kind with what people need to know of it.
type Described struct {
	Kind     Kind     `json:"kind"`
	Severity Severity `json:"severity"`
	Meaning  string   `json:"meaning"`
}

// Kinds explains every kind. The severity is the usual one; an event may have another.
var Kinds = []Described{
	{DocumentChanged, Info, "a document was written; from and to are its revisions, by who wrote it with pgctrl"},
	{DocumentRemoved, Notice, "a document was deleted, which means its defaults again, or \"no longer managed\""},
	{DocumentRefused, Warning, "documents can't be read or contradict one another; nothing changes on any host until that is put right"},
	{DocumentAccepted, Info, "documents that were refused are not any more"},
	{LeaderLost, Warning, "Patroni's leader key is gone; nothing moves before somebody has it"},
	{LeaderChanged, Notice, "Patroni's leader key names a member, which is being promoted or leads already"},
	{PrimaryConfirmed, Notice, "the leader's PostgreSQL was seen to take writes"},
	{PrimaryWithdrawn, Warning, "the confirmed primary's PostgreSQL does not take writes any more"},
	{RouteMoved, Info, "one node's HAProxy sends a service's new connections to other members"},
	{VIPTaken, Info, "the virtual address is on a node"},
	{VIPReleased, Info, "the virtual address was taken off a node"},
	{PoolerUp, Info, "a member's PgBouncer serves"},
	{PoolerDown, Warning, "a member's PgBouncer does not serve; clients are sent to others"},
	{DNSMoved, Info, "a name leads to another member on one node with role infra"},
	{MemberLost, Warning, "Patroni's key of a member is gone: its Patroni has stopped, or can't reach etcd"},
	{MemberBack, Info, "Patroni's key of a member is there"},
	{AgentLost, Warning, "a node's agent has no presence in etcd; its last good state stays"},
	{AgentBack, Info, "a node's agent has its presence"},
	{ServerLost, Warning, "a pgctrl server has no presence in etcd"},
	{ServerBack, Info, "a pgctrl server has its presence"},
	{ServerLeads, Info, "another pgctrl server plans"},
	{StreamGap, Warning, "etcd has forgotten revisions that no server had looked at; what they changed is told as far as it can still be seen"},
	{ApplyFailed, Warning, "a host, or a program on it, refused a plan; message has the program's own words, and the last good state stays"},
	{ApplyDone, Info, "a plan that had been refused is in force"},
	{HealthLost, Warning, "what was applied on a node does not work"},
	{HealthBack, Info, "what did not work on a node works again"},
	{DriftRepaired, Notice, "something was changed by hand on a host, and put back"},
	{DriftReturns, Warning, "what is put right on a host is changed again each time"},
	{OperationAsked, Info, "an operation was asked for"},
	{OperationPhase, Info, "an operation is in another phase"},
	{OperationDone, Notice, "an operation is done"},
	{OperationFailed, Critical, "an operation failed"},
	{OperationCancelled, Notice, "an operation was cancelled"},
	{OperationVetoed, Warning, "a hook refused an operation before it began, or did not answer in time, which its on_timeout takes for no"},
	{OperationOverridden, Notice, "somebody went on with an operation without asking the hooks that want to be asked before"},
	{BackupDone, Info, "a backup is complete"},
	{BackupFailed, Critical, "a backup failed"},
	{HookFailing, Warning, "a hook's receiver does not take events; they are kept and tried again"},
	{HookBack, Info, "a hook's receiver takes events again"},
	{HookDead, Warning, "an event was given up for a hook; pgctrl hook replay sends it again"},
	{HookMissed, Critical, "events had to go before a hook had them: more are not kept, and it was not so far"},
	{HookTest, Info, "somebody asked for a test with pgctrl hook test"},
}

// Describe finds a kind's description.
func Describe(k Kind) (Described, bool) {
	for _, d := range Kinds {
		if d.Kind == k {
			return d, true
		}
	}
	return Described{}, false
}

// AllKinds is the pattern that means every kind. A star would too, but in YAML it has to be quoted.
const AllKinds = "all"

// IsAll reports the patterns that mean every kind.
func IsAll(pattern string) bool { return pattern == AllKinds || pattern == "*" }

// Matches reports whether a kind is one that a pattern means: the kind itself, a family with
// every word in it ("leader.*"), or AllKinds.
func Matches(pattern string, k Kind) bool {
	if family, all := strings.CutSuffix(pattern, ".*"); all {
		f, _, _ := strings.Cut(string(k), ".")
		return f == family
	}
	return IsAll(pattern) || pattern == string(k)
}

// CheckPattern says what is wrong with a pattern, or nil.
func CheckPattern(pattern string) error {
	names := []string{AllKinds}
	for _, d := range Kinds {
		if Matches(pattern, d.Kind) {
			return nil
		}
		family, _, _ := strings.Cut(string(d.Kind), ".")
		names = append(names, string(d.Kind), family+".*")
	}
	slices.Sort(names)
	names = slices.Compact(names)
	hint := near.Hint(pattern, names)
	if hint == "" {
		hint = "pgctrl explain events lists them"
	}
	return fmt.Errorf("unknown kind of event %q; %s", pattern, hint)
}
