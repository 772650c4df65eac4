package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/internal/docgen"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

const cluster = "pg-test"

// sample is the document that a kind's examples are about: its name, and what it
// has to say before it can say anything else.
type sample struct {
	name string
	base []string
	// with is what a field needs beside it, by its path.
	with map[string][]string
	// instead is what a field needs in place of base, by its path.
	instead map[string][]string
}

// store is what a backup in an object store needs.
var store = []string{"repository=s3", "s3.endpoint=s3.example.org", "s3.bucket=pg-backups"}

// command is what a hook with a command needs.
var command = []string{"events=[leader.changed]", "command.program=page-oncall"}

var samples = map[string]sample{
	"backup": {with: map[string][]string{
		"s3.endpoint": {"repository=s3", "s3.bucket=pg-backups"}, "s3.bucket": {"repository=s3", "s3.endpoint=s3.example.org"},
		"s3.region": store, "s3.uri_style": store, "s3.ca_file": store, "s3.verify_tls": store,
		"repository": store[1:],
	}},
	"restore": {base: []string{"stanza=pg-test", "folder=/var/lib/pgbackrest/pg-test-272f20c8"}, with: map[string][]string{
		"repository":  {"s3.endpoint=s3.example.org", "s3.bucket=pg-backups"},
		"target.type": {"target.value=2026-11-26 12:30:00+00"}, "target.value": {"target.type=time"},
	}},
	"databases": {name: "shop"},
	"users":     {name: "app"},
	"dns":       {},
	"freeze":    {base: []string{"until=2026-01-31T18:30:00Z"}},
	"hba": {name: "app", base: []string{"addresses=[10.20.0.0/16]"}, with: map[string][]string{
		"options": {"type=hostssl", "method=cert"},
	}},
	"hooks": {name: "page", base: []string{"events=[leader.changed]", "webhook.url=https://hooks.example.org/pgctrl"}, instead: map[string][]string{
		"command.program": {"events=[leader.changed]"}, "command.arguments": command, "command.on": command,
	}},
	"log":       {},
	"members":   {name: "pg-test-3", base: []string{"node=pg3"}},
	"monitor":   {},
	"pgbouncer": {},
	"nodes":     {name: "pg1", base: []string{"address=10.10.10.11"}, with: map[string][]string{"clusters": {"roles=[proxy]"}}},
	"postgres": {with: map[string][]string{
		"tls_certificate": {"tls=allow", "tls_key=/etc/ssl/pg-test/server.key"},
		"tls_key":         {"tls=allow", "tls_certificate=/etc/ssl/pg-test/server.crt"},
		"tls_authority":   {"tls=allow"}, "tls_names": {"tls=allow"},
	}},
	"services": {name: "reports", base: []string{"port=5440", "role=replica"}},
	"vip":      {},
}

func page() string {
	var b strings.Builder
	b.WriteString(docgen.Made("Documents", "the field tables of `pkg/desired`"))
	intro(&b)
	for _, k := range desired.Kinds() {
		kind(&b, k)
	}
	return b.String()
}

func intro(b *strings.Builder) {
	l := keys.Default
	fmt.Fprintf(b, `
Documents are what people write: one etcd key each, under %s. The prefix is the setting `+"`root`"+`; this page shows its default.

`, code(l.DesiredPrefix()))
	t := docgen.NewTable("document", "key", "what it is")
	for _, k := range desired.Kinds() {
		t.Row(fmt.Sprintf("[%s](#%s)", k.Name, k.Name), code(k.Key(l, "<cluster>", "<name>")), k.Meaning)
	}
	b.WriteString(t.String())
	fmt.Fprintf(b, `
Members are required, and a node for each. Everything else has defaults.

## Writing

A document is one YAML 1.2 mapping, or the same in JSON: no anchors, no key twice, %[1]s is a text and not false. It is read strictly: an unknown field, a
wrong type or a bad value changes nothing on any host, and `+"`pgctrl status`"+` names the key, the line, the field and what was expected.

%[2]s merges fields into what is there: dots name what is deeper, and the field's type decides how the value is read. %[3]s goes back to the default.
%[4]s replaces the whole document, so the examples below repeat what the document needs besides. Deleting a document is going back to its defaults; a member
whose document is deleted is left as it is and no longer managed.

`+"`pgctrl explain <document>.<field>`"+` prints one entry of this page. [configs/schema](../configs/schema) holds JSON schemas for editors.

## Types

`, code("off"), code("pgctrl set"), code("pgctrl unset"), code("etcdctl put"))
	t = docgen.NewTable("type", "how it is written")
	for _, row := range []struct {
		is  desired.Type
		how string
	}{
		{desired.Text, "quotes where YAML needs them"},
		{desired.Integer, "a whole number: `100`"},
		{desired.Boolean, "`true` or `false`"},
		{desired.Span, "numbers with a unit, `ms`, `s`, `m`, `h` or `d`: `250ms`, `1m30s`; a number without one is refused"},
		{desired.ByteSize, "a number with a unit, `B`, `kB`, `MB`, `GB` or `TB`, each 1024 of the one before: `16MB`"},
		{desired.List, "`[infra, proxy]`"},
		{desired.Map, "`{work_mem: 16MB}`; merged entry by entry"},
	} {
		t.Row(string(row.is), row.how)
	}
	b.WriteString(t.String() + "\n## Effects\n\nWhat changing a field does; `pgctrl set` says it before it writes.\n\n")
	t = docgen.NewTable("effect", "what happens")
	for _, e := range []desired.Effect{desired.None, desired.Reload, desired.Restart, desired.Move, desired.Rebuild} {
		t.Row(string(e), e.Meaning())
	}
	fmt.Fprintf(b, `%s
## Defaults for every cluster

What every cluster inherits is under %s, field by field; the cluster's own field wins. A field that is marked "own" belongs to one document and
can't be set there.

    pgctrl set defaults postgres parameters.work_mem=16MB
    etcdctl put %s '{parameters: {work_mem: 16MB}}'
`, t, code(l.Prefix(keys.Defaults)), l.DefaultsDoc("postgres"))
}

func kind(b *strings.Builder, k *desired.Kind) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\nKey: %s", k.Name, k.Meaning, code(k.Key(keys.Default, "<cluster>", "<name>")))
	if k.Named {
		fmt.Fprintf(b, ". The name is %s", k.NameRule())
	}
	b.WriteString(".\n")
	if k.Both {
		fmt.Fprintf(b, "For every cluster: %s. Defaults there are none.\n", code(keys.Default.FleetHook("<name>")))
	} else if !k.Fleet {
		fmt.Fprintf(b, "Defaults for every cluster: %s", code(keys.Default.DefaultsDoc(k.Name)))
		if k.Inherits {
			fmt.Fprintf(b, "; what is under %s exists in every cluster", code(keys.Default.DefaultsDoc(k.Name+"/<name>")))
		}
		b.WriteString(".\n")
	}
	if len(k.Standard) > 0 {
		fmt.Fprintf(b, "Without a document there are: %s.\n", strings.Join(k.Standard, ", "))
	}
	t := docgen.NewTable("field", "type", "default", "effect")
	for _, f := range k.Fields {
		t.Row(fmt.Sprintf("[%s](#%s)", f.Path, anchor(k, f)), f.TypeText(), f.DefaultText(), string(f.Effect))
	}
	b.WriteString("\n" + t.String())
	for _, f := range k.Fields {
		field(b, k, f)
	}
}

func field(b *strings.Builder, k *desired.Kind, f desired.Field) {
	fmt.Fprintf(b, "\n### %s.%s\n\n%s\n\n", k.Name, f.Path, docgen.Text(f.Meaning))
	says := []string{"Type " + f.TypeText(), "default " + f.DefaultText(), "effect " + string(f.Effect), "limits: " + f.Expects()}
	if f.Own {
		says = append(says, "own")
	}
	set, put := example(k, f)
	fmt.Fprintf(b, "%s.\n\n    %s\n    %s\n", docgen.Text(strings.Join(says, "; ")), set, put)
	entries(b, f)
}

// example is the field's example in both ways of writing.
func example(k *desired.Kind, f desired.Field) (set, put string) {
	s, ok := samples[k.Name]
	if !ok {
		panic("gen: no sample for documents of kind " + k.Name)
	}
	document, scope := k.Name, cluster
	switch {
	case k.Fleet:
		document, scope = s.name, k.Name
	case k.Named:
		document += "/" + s.name
	}
	base := s.base
	if other, ok := s.instead[f.Path]; ok {
		base = other
	}
	set = strings.Join(slices.Concat([]string{"pgctrl set", scope, document}, s.with[f.Path], []string{f.Argument()}), " ")
	return set, fmt.Sprintf("etcdctl put %s '%s'", k.Key(keys.Default, cluster, s.name), flow(f, slices.Concat(base, s.with[f.Path], []string{f.Example})))
}

// flow is assignments as a mapping on one line; the last is of field f, and takes
// the place of what the sample says of it.
func flow(f desired.Field, assignments []string) string {
	var groups []string // fields, and groups of them, in the order of the first of each
	parts := map[string][]string{}
	add := func(group, text string) {
		if parts[group] == nil {
			groups = append(groups, group)
		}
		parts[group] = append(parts[group], text)
	}
	last := len(assignments) - 1
	for i, a := range assignments {
		path, value, _ := strings.Cut(a, "=")
		entry, below := strings.CutPrefix(path, f.Path+".")
		group, name, deep := strings.Cut(path, ".")
		switch {
		case i < last && path == f.Path:
		case i == last && f.Type == desired.Map && below:
			add(f.Path, entry+": "+value)
		case deep:
			add(group, name+": "+value)
		default:
			add(path, value)
		}
	}
	var out []string
	for _, g := range groups {
		text := strings.Join(parts[g], ", ")
		if strings.Contains(text, ": ") {
			text = "{" + text + "}"
		}
		out = append(out, g+": "+text)
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// entries says what is special among the entries of a map field.
func entries(b *strings.Builder, f desired.Field) {
	e := f.Entries()
	if len(e.Restart) > 0 {
		fmt.Fprintf(b, "\nThese have the effect restart: %s.\n", list(e.Restart))
	}
	if len(e.Least) > 0 {
		var least []string
		for _, name := range slices.Sorted(maps.Keys(e.Least)) {
			least = append(least, fmt.Sprintf("%s %d", code(name), e.Least[name]))
		}
		fmt.Fprintf(b, "\nLowest values: %s.\n", strings.Join(least, ", "))
	}
	if len(e.Refused) == 0 {
		return
	}
	var reasons [][2]string // in the order of the first name
	names := map[[2]string][]string{}
	for _, r := range e.Refused {
		why := [2]string{r.Why, r.Instead}
		if names[why] == nil {
			reasons = append(reasons, why)
		}
		names[why] = append(names[why], r.Name)
	}
	t := docgen.NewTable("refused", "why", "instead")
	for _, why := range reasons {
		t.Row(list(names[why]), why[0], why[1])
	}
	b.WriteString("\n" + t.String())
}

func list(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = code(n)
	}
	return strings.Join(out, ", ")
}

func code(s string) string { return "`" + s + "`" }

// anchor is the link target that Markdown makes of a field's heading.
func anchor(k *desired.Kind, f desired.Field) string {
	return strings.ToLower(strings.ReplaceAll(k.Name+f.Path, ".", ""))
}
