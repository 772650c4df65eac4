package desired

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/near"
)

// HBA is one rule about who may connect, from where and how: hba/<name>.
//
// Rules are tried in their order, and the first that fits decides. What the cluster
// itself needs (replication, rewinding, the agent) comes before all of them, so no
// rule locks it out.
type HBA struct {
	Meta      `yaml:"-"`
	Order     int            `yaml:"order" min:"1" max:"999" note:"500; default 900, local 910" own:"true" effect:"reload" example:"100" says:"Its place: the lowest is tried first, and rules of one place by their names; the first that fits decides."`
	Type      string         `yaml:"type" enum:"local,host,hostssl,hostnossl" note:"host; of the rule local: local" own:"true" effect:"reload" example:"hostssl" says:"Which connections it is about: over the unix socket, over TCP, or over TCP with or without TLS only."`
	Databases []string       `yaml:"databases" format:"database" pattern:"^[A-Za-z0-9_][A-Za-z0-9_$.-]{0,62}$" note:"[all]" own:"true" effect:"reload" example:"[app]" says:"The databases, or all, sameuser, samerole, replication; all leaves replication out."`
	Users     []string       `yaml:"users" format:"role" pattern:"^[+]?[A-Za-z0-9_][A-Za-z0-9_$.-]{0,62}$" note:"[all]" own:"true" effect:"reload" example:"[app]" says:"The roles, or all; +name is every member of the role name."`
	Addresses []string       `yaml:"addresses" format:"hba address" note:"of the rule default: [all]; any other rule over TCP needs them" own:"true" effect:"reload" example:"[10.20.0.0/16]" says:"Where from: addresses, networks, host names, .domain, or all, samehost, samenet. Clients of a service come from the node of its HAProxy, and those of a pooled one over the socket: rules of type local are about them."`
	Method    string         `yaml:"method" default:"scram-sha-256" enum:"scram-sha-256,cert,peer,reject,trust,md5,password,ldap,gss,pam,radius,ident" effect:"reload" example:"reject" says:"How the client proves who it is; reject refuses it, trust believes it."`
	Options   map[string]any `yaml:"options" effect:"reload" example:"clientcert=verify-full" says:"Options of the method, such as clientcert or map; PostgreSQL itself judges them."`
	On        string         `yaml:"on" default:"all" enum:"all,offline,online" effect:"reload" example:"offline" says:"On which members: all, those that are offline, or those that are not. No rule is for the primary alone: who leads changes, and a reload must not be a part of that."`
	Enabled   bool           `yaml:"enabled" default:"true" effect:"reload" example:"false" says:"false switches off a rule that exists by default."`
}

// hbaAll is pg_hba.conf's word for every database, role or address.
const hbaAll = "all"

// The rules that exist without a document: who comes with a password comes in.
// Theirs are the last places but those that people choose to be later still.
var standardHBA = map[string]map[string]any{
	"default": {"order": 900, "type": "host", "addresses": []string{hbaAll}},
	"local":   {"order": 910, "type": "local"},
}

func hbaDefaults(name string, _ settings) map[string]any {
	out := map[string]any{"order": 500, "type": "host", "databases": []string{hbaAll}, "users": []string{hbaAll}}
	for k, v := range standardHBA[name] {
		out[k] = v
	}
	return out
}

// hbaAddress reads one entry of addresses. A name is one that somebody may have, so
// what looks like an address and is none is a mistake and no name.
func hbaAddress(v *value) (any, string, string) {
	s := v.source
	switch {
	case s == hbaAll, s == "samehost", s == "samenet":
		return s, "", ""
	case strings.Contains(s, "/"):
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil || p.Addr().Is4In6():
			return nil, "expected " + hbaExpects + ", found " + v.found(), ""
		case p != p.Masked():
			return nil, "expected a network, whose address ends where its length says, found " + v.found(),
				"did you mean " + quote(p.Masked().String()) + " or " + quote(p.Addr().String()) + "?"
		}
		return p.String(), "", ""
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()).String(), "", ""
	}
	slip := "" // of a keyword; a host's name has a dot or is like none of them
	if !strings.Contains(s, ".") {
		slip = near.Hint(s, []string{hbaAll, "samehost", "samenet"})
	}
	if slip != "" || !hostPattern.MatchString(s) || len(s) > 253 || !strings.ContainsAny(lastLabel(s), letters) {
		return nil, "expected " + hbaExpects + ", found " + v.found(), slip
	}
	return s, "", ""
}

// hbaWords say what belongs into the lists of a rule, by the fields' formats.
var hbaWords = map[string]string{
	"hba address": hbaExpects,
	"database":    "the name of a database: a letter, digit or _, then letters, digits and _ $ . -",
	"tls name":    "a host name, perhaps with *, or an address",
	"role":        "the name of a role: a letter, digit or _, then letters, digits and _ $ . -; with + before it, its members",
}

const (
	hbaExpects = "an address, a network, a host name, .domain, all, samehost or samenet"
	letters    = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

var hostPattern = regexp.MustCompile(`^\.?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

func lastLabel(host string) string { return host[strings.LastIndex(host, ".")+1:] }

const optionPattern = `^[a-z][a-z0-9_]{0,62}$`

var (
	optionName = regexp.MustCompile(optionPattern)
	// secretOptions hold passwords, and a document is no place for one (R11).
	secretOptions = map[string]string{
		"ldapbindpasswd": "use ldapprefix and ldapsuffix, which bind as the client",
		"radiussecrets":  "use another method",
	}
)

func checkOption(name string, v *value) (string, string, string) {
	if !optionName.MatchString(name) {
		return "", "expected the name of an option: a lower-case letter, then letters, digits and _; found " + quote(name), ""
	}
	if why, secret := secretOptions[name]; secret {
		return "", "holds a password, which a document can't", why
	}
	if strings.ContainsAny(v.source, `"\`) {
		return "", `expected text without " and \, which pg_hba.conf can't hold, found ` + v.found(), ""
	}
	return name, "", ""
}

func checkHBA(d *resolved) []Problem {
	h := d.doc.(*HBA)
	var out []Problem
	no := func(field, hint, format string, args ...any) {
		p := d.problem(field, format, args...)
		p.Suggestion = hint
		out = append(out, p)
	}
	local := h.Type == "local"
	switch {
	case local && len(h.Addresses) > 0:
		no("addresses", "", "expected no addresses with type local, found %s", spell(h.Addresses))
	case !local && len(h.Addresses) == 0:
		no("addresses", "write [all] when everybody is meant", "expected %s, found nothing; a rule of type %s needs them", hbaExpects, h.Type)
	}
	switch {
	case h.Method == "peer" && !local:
		no("method", "", "expected another method than peer with type %s, because only the unix socket tells who the peer is", h.Type)
	case (h.Method == "ident" || h.Method == "gss") && local:
		no("method", "", "expected another method than %s with type local, which has no network", h.Method)
	case h.Method == "cert" && h.Type != "hostssl":
		no("method", "set type to hostssl", "expected another method than cert with type %s, because only TLS has certificates", h.Type)
	}
	for field, words := range map[string][]string{"databases": h.Databases, "users": h.Users, "addresses": h.Addresses} {
		switch {
		case slices.Contains(words, hbaAll) && len(words) > 1:
			no(field, "", "expected all alone or names, found %s", spell(words))
		case len(words) == 0 && field != "addresses":
			no(field, "unset it, which means [all]", "expected at least one, found []")
		}
	}
	slices.SortStableFunc(out, func(a, b Problem) int { return cmp.Compare(a.Field, b.Field) })
	return out
}

// checkRulesOfTLS finds rules that no connection could match, because the cluster has no
// TLS, or nothing else. PostgreSQL logs the one and is silent about the other, and either
// way somebody believes that the rule decides.
func checkRulesOfTLS(c *Cluster) []Problem {
	if !c.Loaded("hba") || !c.Loaded("postgres") || c.Invalid("postgres") {
		return nil
	}
	var out []Problem
	for _, h := range c.HBAList() {
		var p Problem
		switch tls := c.Postgres.TLS; {
		case h.Type == "hostssl" && !c.Postgres.HasTLS():
			p = c.resolved["hba/"+h.Name].problem("type", "expected another type than hostssl while the cluster has no TLS, which is in its document postgres")
			p.Suggestion = "pgctrl set " + c.Name + " postgres tls=" + TLSAllow
		case h.Type == "hostnossl" && tls == TLSRequire:
			p = c.resolved["hba/"+h.Name].problem("type", "expected another type than hostnossl while the cluster requires TLS, which is in its document postgres")
			p.Suggestion = "pgctrl set " + c.Name + " postgres tls=" + TLSAllow
		default:
			continue
		}
		out = append(out, p)
	}
	return out
}

// HBAList returns the rules that are switched on, in the order in which they are tried.
func (c *Cluster) HBAList() []*HBA {
	var out []*HBA
	for _, name := range sortedKeys(c.HBA) {
		if c.HBA[name].Enabled {
			out = append(out, c.HBA[name])
		}
	}
	slices.SortStableFunc(out, func(a, b *HBA) int { return cmp.Compare(a.Order, b.Order) })
	return out
}

// Holds reports whether the rule is for the member.
func (h *HBA) Holds(offline bool) bool {
	return h.On == hbaAll || offline == (h.On == "offline")
}

// Source is the document that made the rule what it is: its own, the fleet's
// default, or none when it is built in.
func (c *Cluster) Source(document string) string {
	d := c.resolved[document]
	if d == nil {
		return ""
	}
	out := ""
	for _, path := range d.set.paths() {
		if out = d.set[path].key; out == d.key {
			break
		}
	}
	return out
}

var _ = register(Kind{
	Name: "hba", Named: true,
	Meaning:   "A rule about who may connect to PostgreSQL, from where and how.",
	checkName: keys.CheckName,
	Standard:  sortedKeys(standardHBA),
	Inherits:  true,
	builtin:   hbaDefaults,
	check:     checkHBA,
	store:     func(c *Cluster, name string, doc any) { c.HBA[name] = doc.(*HBA) },
}, HBA{}, map[string]*entryRule{
	"options": {check: checkOption, pattern: optionPattern, refused: sortedKeys(secretOptions)},
})
