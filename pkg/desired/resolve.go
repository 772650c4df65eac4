package desired

import (
	"encoding/binary"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/internal/memo"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// layer is one key that contributes to a document; the last layer wins, field by
// field and map entry by map entry.
type layer struct {
	kv kv.KV
	// shared: for all documents of the kind, so it can't hold their own fields.
	shared bool
}

// resolved is one document with everything that contributes to it.
type resolved struct {
	kind *Kind
	name string
	// key is where the document is, or would be.
	key string
	// set are the merged settings, without built-in defaults.
	set settings
	// full are the settings with the built-in defaults; those have no key.
	full     settings
	doc      any
	problems []Problem
}

// remembered are documents as they were resolved last. All controllers read a cluster's
// documents, again and again and mostly as they were, and parsing them is what takes
// longest. A few hundred are those of the clusters that are worked on at the moment.
var remembered = memo.New[string, *resolved](256)

// resolve merges layers into one document. It may be shared: whoever gets it does not
// change it.
func (k *Kind) resolve(name, key string, layers []layer) *resolved {
	var id []byte
	text := func(s string) { id = append(binary.AppendUvarint(id, uint64(len(s))), s...) }
	text(k.Name)
	text(name)
	text(key)
	for _, l := range layers {
		id = strconv.AppendBool(id, l.shared)
		id = binary.AppendVarint(binary.AppendVarint(id, l.kv.ModRevision), l.kv.CreateRevision)
		text(l.kv.Key)
		text(string(l.kv.Value))
	}
	return remembered.Get(string(id), func() *resolved { return k.merge(name, key, layers) })
}

func (k *Kind) merge(name, key string, layers []layer) *resolved {
	d := &resolved{kind: k, name: name, key: key, set: settings{}}
	for _, l := range layers {
		set, problems := k.decode(l.kv.Key, l.kv.Value)
		d.problems = append(d.problems, problems...)
		if l.shared {
			d.problems = append(d.problems, dropOwn(k, set)...)
		}
		maps.Copy(d.set, set)
	}
	d.full = k.withDefaults(name, d.set)
	d.assign(layers)
	if len(d.problems) > 0 {
		return d // follow-up errors would hide the cause
	}
	for i := range k.Fields {
		f := &k.Fields[i]
		if _, ok := d.full[f.Path]; f.Required && !ok {
			d.problems = append(d.problems, Problem{
				Key: key, Kind: k.Name, Field: f.Path, Reason: observed.InvalidDocument,
				Message: fmt.Sprintf("expected %s, found nothing; the field is required", f.Expects()),
			})
		}
	}
	if k.check != nil && len(d.problems) == 0 {
		d.problems = append(d.problems, k.check(d)...)
	}
	return d
}

// dropOwn removes the fields that one document has for itself.
func dropOwn(k *Kind, set settings) []Problem {
	var out []Problem
	own := k.Name + "/<name>"
	if !k.Named {
		own = "the cluster's own document " + k.Name
	}
	for _, path := range set.paths() {
		s := set[path]
		if !s.field.Own {
			continue
		}
		delete(set, path)
		out = append(out, Problem{
			Key: s.key, Kind: k.Name, Line: s.line, Column: s.column, Field: path, Reason: observed.InvalidDocument,
			Message:    k.notShared(),
			Suggestion: "set it in " + own,
		})
	}
	return out
}

// notShared says why a field can't have a default for the fleet.
func (k *Kind) notShared() string {
	all := "clusters"
	if k.Named {
		all = k.Name
	}
	return fmt.Sprintf("expected a field that all %s can share, found one that each has for itself", all)
}

func (k *Kind) withDefaults(name string, set settings) settings {
	full := maps.Clone(set)
	special := map[string]any{}
	if k.builtin != nil {
		special = k.builtin(name, set)
	}
	for i := range k.Fields {
		f := &k.Fields[i]
		if _, ok := full[f.Path]; ok || f.Type == Map {
			continue
		}
		x := f.builtin
		if s, ok := special[f.Path]; ok {
			x = s
		}
		if x != nil {
			full[f.Path] = setting{field: f, value: x}
		}
	}
	return full
}

// assign makes the struct.
func (d *resolved) assign(layers []layer) {
	doc := reflect.New(d.kind.model)
	for i := range d.kind.Fields {
		f := &d.kind.Fields[i]
		target := doc.Elem().FieldByIndex(f.index)
		switch f.Type {
		case Map:
			target.Set(reflect.ValueOf(d.entries(f)))
		case List:
			target.Set(reflect.ValueOf([]string{}))
		}
		if s, ok := d.full[f.Path]; ok {
			x := s.value
			if l, isList := x.([]string); isList {
				x = slices.Clone(l)
			}
			target.Set(reflect.ValueOf(x))
		}
	}
	d.doc = doc.Interface()
	m := d.doc.(interface{ meta() *Meta }).meta()
	m.Name, m.Key = d.name, d.key
	for _, l := range layers {
		if l.kv.Key == d.key {
			m.ModRevision, m.CreateRevision = l.kv.ModRevision, l.kv.CreateRevision
		}
	}
}

func (d *resolved) entries(f *Field) map[string]any {
	out := map[string]any{}
	for _, s := range d.full {
		if s.field.Path == f.Path && s.entry != "" {
			out[s.entry] = s.value
		}
	}
	return out
}

// EffectiveField is one field of a document as it is in force, and why.
type EffectiveField struct {
	Field string `json:"field"`
	Value string `json:"value"`
	// Source is "document", "default" (a defaults document) or "built in".
	Source string `json:"source"`
	// Key is the key that sets it; empty for what is built in.
	Key string `json:"key,omitempty"`
	// Effect is what changing it does.
	Effect Effect `json:"effect"`
}

// Effective lists every field of one document ("postgres", "members/pg-test-1")
// in the order of `pgctrl explain`; nil when the cluster has no such document or
// its kind was not loaded.
func (c *Cluster) Effective(document string) []EffectiveField {
	d := c.resolved[document]
	if d == nil {
		return nil
	}
	var out []EffectiveField
	for i := range d.kind.Fields {
		f := &d.kind.Fields[i]
		if f.Type == Map {
			out = append(out, d.effectiveEntries(f)...)
			continue
		}
		if s, ok := d.full[f.Path]; ok {
			out = append(out, d.effective(f.Path, s))
		} else {
			out = append(out, EffectiveField{Field: f.Path, Source: "built in", Value: emptyValue(f), Effect: f.Effect})
		}
	}
	return out
}

func emptyValue(f *Field) string {
	switch {
	case f.DefaultNote != "":
		return "(" + f.DefaultNote + ")"
	case f.Type == List:
		return "[]"
	}
	return ""
}

func (d *resolved) effectiveEntries(f *Field) []EffectiveField {
	var out []EffectiveField
	for _, path := range d.full.paths() {
		if s := d.full[path]; s.field.Path == f.Path {
			out = append(out, d.effective(path, s))
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Field < out[j].Field })
	return out
}

func (d *resolved) effective(path string, s setting) EffectiveField {
	e := EffectiveField{Field: path, Value: spell(s.value), Key: s.key, Effect: s.field.effectOf(s.entry)}
	switch s.key {
	case "":
		e.Source = "built in"
	case d.key:
		e.Source = "document"
	default:
		e.Source = "default"
	}
	return e
}

// spell is a typed value as a document would write it.
func spell(x any) string {
	if l, ok := x.([]string); ok {
		quoted := make([]string, len(l))
		for i, s := range l {
			quoted[i] = scalarText(scalarValue(s), true)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return scalarText(scalarValue(x), false)
}
