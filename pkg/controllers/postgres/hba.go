package postgres

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// HBARule is one line of pg_hba.conf.
type HBARule struct {
	Line string `json:"line"`
	// Rule is the document's name below hba/; empty for what the cluster itself needs.
	Rule string `json:"rule,omitempty"`
	// Key is the document that makes it what it is; empty when it is built in.
	Key string `json:"key,omitempty"`
}

// String is the line as pg_hba.conf has it: with the rule it came from, so that
// somebody who reads the file, or PostgreSQL's complaint about it, finds the document.
func (r HBARule) String() string {
	if r.Rule == "" {
		return r.Line
	}
	return r.Line + " # hba/" + r.Rule
}

// HBARules are the lines for a member, in the order in which PostgreSQL tries them.
// What the cluster needs to work comes first: a rule of people's can't lock it out.
func HBARules(docs *desired.Cluster, members []plan.Member, offline bool) []HBARule {
	own := []string{
		// The agent looks at PostgreSQL as root over the socket, hence the map.
		"local all postgres peer map=pgctrl",
		"local replication " + either(twins.Replicator) + " scram-sha-256",
		// PgBouncer and the exporter reach their own PostgreSQL over the socket.
		"local all " + either(twins.Pooler) + " scram-sha-256",
		"local all " + either(twins.Monitor) + " scram-sha-256",
	}
	// libpq asks for TLS first wherever nothing else is said, and Patroni leaves it at
	// that. So members reach one another in a change of this, whoever has it already.
	network := overNetwork(docs, "host")
	for _, m := range members {
		own = append(own,
			network+" replication "+either(twins.Replicator)+" "+cidr(m.Address)+" scram-sha-256",
			network+" postgres "+either(twins.Rewind)+" "+cidr(m.Address)+" scram-sha-256")
	}
	// The pooler's role is told every user's verifier, and runs whatever function somebody
	// made in a database of their own before ours was there. Over no network.
	own = append(own, network+" all "+either(twins.Pooler)+" all reject")
	var out []HBARule
	for _, line := range own {
		out = append(out, HBARule{Line: line})
	}
	for _, h := range docs.HBAList() {
		if !h.Holds(offline) {
			continue
		}
		for _, line := range hbaLines(h, overNetwork(docs, h.Type)) {
			out = append(out, HBARule{Line: line, Rule: h.Name, Key: docs.Source("hba/" + h.Name)})
		}
	}
	return out
}

// overNetwork is the type of a rule as it is in force: where TLS is required there is no
// other way over the network.
func overNetwork(docs *desired.Cluster, of string) string {
	if of == "host" && docs.Postgres.TLS == desired.TLSRequire {
		return "hostssl"
	}
	return of
}

// either is the field for a role and its twin: who may log in is said by their passwords,
// so that a rotation changes no line.
func either(p twins.Pair) string { return p[0].Role + "," + p[1].Role }

// hbaLines are a document's lines: pg_hba.conf has one address in each.
func hbaLines(h *desired.HBA, of string) []string {
	addresses := h.Addresses
	if len(addresses) == 0 {
		addresses = []string{""}
	}
	var out []string
	for _, a := range addresses {
		fields := []string{of, strings.Join(h.Databases, ","), strings.Join(h.Users, ","), a, h.Method}
		for _, name := range slices.Sorted(maps.Keys(h.Options)) {
			fields = append(fields, name+"="+hbaValue(h.Options[name]))
		}
		out = append(out, strings.Join(slices.DeleteFunc(fields, func(s string) bool { return s == "" }), " "))
	}
	return out
}

var plainValue = regexp.MustCompile(`^[A-Za-z0-9_./:@=-]+$`)

// hbaValue is an option's value; pg_hba.conf says 1 and 0 for true and false.
func hbaValue(x any) string {
	switch x {
	case true:
		return "1"
	case false:
		return "0"
	}
	if s := fmt.Sprint(x); plainValue.MatchString(s) {
		return s
	}
	return fmt.Sprintf(`"%v"`, x) // the document can't hold a quote or backslash
}
