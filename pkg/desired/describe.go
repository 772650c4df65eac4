package desired

import (
	"fmt"
	"strings"
)

// TypeText is the field's type with its unit: "integer (TCP port)".
func (f *Field) TypeText() string {
	if f.Unit != "" {
		return fmt.Sprintf("%s (%s)", f.Type, f.Unit)
	}
	return string(f.Type)
}

// DefaultText is what the field is when nobody sets it, or what decides it.
func (f *Field) DefaultText() string {
	switch {
	case f.Required:
		return "(required)"
	case f.DefaultNote != "":
		return "(" + f.DefaultNote + ")"
	case f.Default == "":
		return "-"
	}
	return f.Default
}

// Entries is what there is to say about the entries of a map field.
type Entries struct {
	// Refused are the names that no document can have.
	Refused []Refusal
	// Restart are the names whose effect is restart rather than the field's.
	Restart []string
	// Least are the lowest values, by name.
	Least map[string]int64
}

// Refusal is a name that no document can have, why, and what to do instead.
type Refusal struct{ Name, Why, Instead string }

// Entries describes the entries of a map field; the zero value for other fields.
func (f *Field) Entries() Entries {
	if f.entry == nil {
		return Entries{}
	}
	out := Entries{Restart: f.entry.restart, Least: f.entry.least}
	for _, name := range f.entry.refused {
		_, why, instead := f.entry.check(name, &value{})
		out.Refused = append(out.Refused, Refusal{name, why, instead})
	}
	return out
}

// NameRule says what a name in the kind's key is made of; empty when it has none.
func (k *Kind) NameRule() string {
	if k.checkName == nil {
		return ""
	}
	_, rule, _ := strings.Cut(k.checkName("").Error(), "expected ")
	return rule
}
