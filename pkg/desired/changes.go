package desired

import (
	"reflect"
	"sort"
)

// FieldChange is one field that a change of a document changes.
type FieldChange struct {
	// Field is the dotted path, such as "parameters.work_mem".
	Field string `json:"field"`
	// Old and New are as a document would spell them, built-in defaults included;
	// empty means that there is no value.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
	// Effect is what the change does.
	Effect Effect `json:"effect"`
}

// Changes compares two texts of one document by their meaning: order, comments,
// quotes and "1024kB" for "1MB" are no change, nor is writing a default down. nil
// stands for no document. What can't be read counts as not there.
func Changes(document string, oldText, newText []byte) []FieldChange {
	k, err := KindOf(document)
	if err != nil {
		return nil
	}
	name := nameOf(document)
	return k.compare(k.meaning(name, oldText), k.meaning(name, newText))
}

// ChangesBetween compares one document of two states of a cluster, with all that
// it inherits.
func ChangesBetween(before, after *Cluster, document string) []FieldChange {
	k, err := KindOf(document)
	if err != nil {
		return nil
	}
	var was, is settings
	if d := before.resolved[document]; d != nil {
		was = d.full
	}
	if d := after.resolved[document]; d != nil {
		is = d.full
	}
	return k.compare(was, is)
}

func (k *Kind) compare(before, after settings) []FieldChange {
	paths := map[string]bool{}
	for p := range before {
		paths[p] = true
	}
	for p := range after {
		paths[p] = true
	}
	var out []FieldChange
	for _, p := range sortedKeys(paths) {
		was, had := before[p]
		is, has := after[p]
		if had && has && reflect.DeepEqual(was.value, is.value) {
			continue
		}
		c := FieldChange{Field: p}
		either := is
		if had {
			c.Old, either = spell(was.value), was
		}
		if has {
			c.New = spell(is.value)
		}
		c.Effect = either.field.effectOf(either.entry)
		out = append(out, c)
	}
	k.order(out)
	return out
}

// meaning is a text's settings with the built-in defaults.
func (k *Kind) meaning(name string, data []byte) settings {
	set, _ := k.decode("", data)
	return k.withDefaults(name, set)
}

// order sorts changes as `pgctrl explain` lists the fields.
func (k *Kind) order(cs []FieldChange) {
	rank := func(path string) int {
		for i := range k.Fields {
			if f, _, ok := k.field(path); ok && f.Path == k.Fields[i].Path {
				return i
			}
		}
		return len(k.Fields)
	}
	sort.SliceStable(cs, func(i, j int) bool { return rank(cs[i].Field) < rank(cs[j].Field) })
}

// Strongest is the effect a person must know of; None when nothing changes.
func Strongest(cs []FieldChange) Effect {
	out := None
	for _, c := range cs {
		if c.Effect.rank() > out.rank() {
			out = c.Effect
		}
	}
	return out
}
