package desired

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// Effect is what changing a field does, in one word.
type Effect string

// The effects, mildest first.
const (
	// None: nothing on any host changes; it matters for later decisions.
	None Effect = "none"
	// Reload: programs read their configuration again; no session is cut.
	Reload Effect = "reload"
	// Restart: the value waits as PendingRestart until PostgreSQL is restarted.
	Restart Effect = "restart"
	// Move: clients must go elsewhere; an address or port that they use changes.
	Move Effect = "move"
	// Rebuild: data must be copied again.
	Rebuild Effect = "rebuild"
)

// Meaning explains the effect in one sentence.
func (e Effect) Meaning() string {
	return map[Effect]string{
		None:    "nothing on any host changes",
		Reload:  "programs read their configuration again; no session is cut",
		Restart: "waits until PostgreSQL is restarted; nothing restarts it as a side effect",
		Move:    "clients must go elsewhere: an address or port that they use changes",
		Rebuild: "data must be copied again; an existing cluster keeps what it was formed with",
	}[e]
}

// rank orders effects; the strongest one of a change is what a person must know.
func (e Effect) rank() int {
	return map[Effect]int{None: 0, Reload: 1, Restart: 2, Move: 3, Rebuild: 4}[e]
}

// Type is what a field holds.
type Type string

// The types.
const (
	Text     Type = "text"
	Integer  Type = "integer"
	Boolean  Type = "boolean"
	Span     Type = "duration"
	ByteSize Type = "size"
	List     Type = "list"
	Map      Type = "map"
)

// Field is everything there is to say about one field. It is read from the
// struct tags of its kind, once.
type Field struct {
	// Path is the dotted name.
	Path string `json:"path"`
	Type Type   `json:"type"`
	// Default is the built-in default as a document would spell it. It is empty
	// when there is none, or when DefaultNote says what decides it.
	Default     string `json:"default,omitempty"`
	DefaultNote string `json:"default_note,omitempty"`
	Effect      Effect `json:"effect"`
	Required    bool   `json:"required,omitempty"`
	// Own: the field belongs to one document, so defaults for all can't set it.
	Own bool `json:"own,omitempty"`
	// Repeats: a list may have a value twice.
	Repeats bool `json:"repeats,omitempty"`
	// Min and Max bound integers, durations and sizes.
	Min     string   `json:"min,omitempty"`
	Max     string   `json:"max,omitempty"`
	Pattern string   `json:"pattern,omitempty"`
	Enum    []string `json:"enum,omitempty"`
	// Format names a check that no pattern can make: "ip", "cidr" or "node", or
	// says what is meant: "path", "time", "domain", "url", "endpoint", "bucket", "region",
	// "schedule", "cluster", "label", "target", "webhook", "program", "event".
	Format string `json:"format,omitempty"`
	Unit   string `json:"unit,omitempty"`
	// Example is the field as `pgctrl set` takes it: "ttl=1m",
	// "parameters.work_mem=16MB".
	Example string `json:"example"`
	// Meaning is one sentence.
	Meaning string `json:"meaning"`

	index    []int
	pattern  *regexp.Regexp
	min, max *int64
	builtin  any // the parsed Default; nil when there is none
	entry    *entryRule
	later    map[string]string // values of a later version, and what to say
}

// Argument is the example as a shell takes it.
func (f Field) Argument() string {
	if strings.Contains(f.Example, " ") {
		return "'" + f.Example + "'"
	}
	return f.Example
}

// entryRule is what a kind knows about the entries of a map field.
type entryRule struct {
	// check returns the canonical name, and what is wrong with the entry.
	check func(name string, v *value) (canonical, message, suggestion string)
	// effect is what changing the entry does.
	effect func(name string) Effect
	// pattern and refused describe the names to the JSON schema.
	pattern string
	refused []string
	// restart lists the entries whose effect is restart, and least the lowest values.
	restart []string
	least   map[string]int64
}

// tableOf reads the fields of a document struct. A fault in the tags is a fault of
// the program, found by any test.
func tableOf(model any, entries map[string]*entryRule) []Field {
	var out []Field
	collect(reflect.TypeOf(model), "", nil, &out)
	for i := range out {
		f := &out[i]
		f.entry = entries[f.Path]
		if f.Default == "" {
			continue
		}
		v, err := plain(f.Default, 0, 0)
		if err != nil {
			panic(fmt.Sprintf("field %s: default: %v", f.Path, err))
		}
		if f.Type == List || f.Type == Map {
			panic(fmt.Sprintf("field %s: a %s has no default but the empty one", f.Path, f.Type))
		}
		x, wrong, _ := f.parse(v)
		if wrong != "" {
			panic(fmt.Sprintf("field %s: default: %s", f.Path, wrong))
		}
		f.builtin = x
	}
	return out
}

func collect(t reflect.Type, path string, index []int, out *[]Field) {
	for i := range t.NumField() {
		sf := t.Field(i)
		name := sf.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue // Meta and other things that no document holds
		}
		at := append(append([]int(nil), index...), i)
		if sf.Type.Kind() == reflect.Struct {
			collect(sf.Type, join(path, name), at, out)
			continue
		}
		*out = append(*out, fieldOf(sf, join(path, name), at))
	}
}

func fieldOf(sf reflect.StructField, path string, index []int) Field {
	tag := sf.Tag.Get
	f := Field{
		Path: path, Type: typeOf(sf.Type), Default: tag("default"), DefaultNote: tag("note"),
		Effect: Effect(tag("effect")), Required: tag("required") == "true", Own: tag("own") == "true", Repeats: tag("repeats") == "true",
		Min: tag("min"), Max: tag("max"), Pattern: tag("pattern"), Format: tag("format"),
		Unit: tag("unit"), Meaning: tag("says"), index: index,
	}
	if f.Effect.Meaning() == "" || f.Meaning == "" || tag("example") == "" {
		panic(fmt.Sprintf("field %s: needs the tags effect, example and says", path))
	}
	f.Example = path + "=" + tag("example")
	if f.Type == Map {
		f.Example = path + "." + tag("example")
	}
	if s := tag("enum"); s != "" {
		f.Enum = strings.Split(s, ",")
	}
	if f.Pattern != "" {
		f.pattern = regexp.MustCompile(f.Pattern)
	}
	if value, why, ok := strings.Cut(tag("later"), "="); ok {
		f.later = map[string]string{value: why}
	}
	f.min, f.max = f.bound(f.Min), f.bound(f.Max)
	return f
}

func typeOf(t reflect.Type) Type {
	switch t {
	case reflect.TypeFor[Duration]():
		return Span
	case reflect.TypeFor[Size]():
		return ByteSize
	case reflect.TypeFor[[]string]():
		return List
	case reflect.TypeFor[map[string]any]():
		return Map
	}
	switch t.Kind() {
	case reflect.String:
		return Text
	case reflect.Int:
		return Integer
	case reflect.Bool:
		return Boolean
	}
	panic("desired: no document type for " + t.String())
}

func (f *Field) bound(s string) *int64 {
	if s == "" {
		return nil
	}
	n, err := f.measure(s)
	if err != nil {
		panic(fmt.Sprintf("field %s: bound: %v", f.Path, err))
	}
	return &n
}

// measure is a number, duration or size as one comparable number.
func (f *Field) measure(s string) (int64, error) {
	switch f.Type {
	case Span:
		d, err := ParseDuration(s)
		return int64(d), err
	case ByteSize:
		z, err := ParseSize(s)
		return int64(z), err
	}
	return strconv.ParseInt(s, 10, 64)
}

// effectOf is the effect of changing the field, or one entry of it.
func (f *Field) effectOf(entry string) Effect {
	if entry != "" && f.entry != nil && f.entry.effect != nil {
		return f.entry.effect(entry)
	}
	return f.Effect
}
