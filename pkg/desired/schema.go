package desired

import (
	"encoding/json"
	"strconv"
)

// object is a JSON object with sorted keys, as encoding/json writes maps.
type object = map[string]any

// Schema is the JSON schema (draft 2020-12) of a document kind, for editors. It
// accepts whatever the parser accepts. The parser also knows what a schema can't
// say: bounds of durations, fields that depend on one another, other documents.
func Schema(kind string) ([]byte, error) {
	k, err := KindOf(kind)
	if err != nil {
		return nil, err
	}
	root := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$id":     "urn:pgctrl:schema:" + k.Name,
		"title":   k.Name, "description": k.Meaning,
	}
	for name, value := range k.schema("") {
		root[name] = value
	}
	out, err := json.MarshalIndent(root, "", "  ")
	return append(out, '\n'), err
}

// schema describes the mapping of the fields below a path.
func (k *Kind) schema(path string) object {
	properties, required := object{}, []string{}
	names, group := k.children(path)
	for _, name := range names {
		if group[name] {
			properties[name] = k.schema(join(path, name))
			continue
		}
		f, _, _ := k.field(join(path, name))
		properties[name] = f.schema()
		if f.Required {
			required = append(required, name)
		}
	}
	out := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (f *Field) schema() object {
	out := f.typeSchema()
	out["description"] = f.Meaning
	if f.builtin != nil {
		out["default"] = json.RawMessage(jsonDefault(f))
	}
	out["x-effect"] = f.Effect
	if f.Unit != "" {
		out["x-unit"] = f.Unit
	}
	return out
}

func jsonDefault(f *Field) string {
	if f.Type == Integer || f.Type == Boolean {
		return f.Default
	}
	return strconv.Quote(f.Default)
}

func (f *Field) typeSchema() object {
	switch f.Type {
	case Integer:
		out := object{"type": "integer"}
		if f.min != nil {
			out["minimum"] = *f.min
		}
		if f.max != nil {
			out["maximum"] = *f.max
		}
		return out
	case Boolean:
		return object{"type": "boolean"}
	case Span:
		return object{"type": "string", "pattern": durationPattern, "x-minimum": f.Min, "x-maximum": f.Max}
	case ByteSize:
		return object{"type": "string", "pattern": sizePattern}
	case List:
		return object{"type": "array", "uniqueItems": !f.Repeats, "items": f.textSchema()}
	case Map:
		return f.mapSchema()
	}
	return f.textSchema()
}

func (f *Field) textSchema() object {
	out := object{"type": "string"}
	if len(f.Enum) > 0 {
		out["enum"] = f.Enum
	}
	if f.Pattern != "" {
		out["pattern"] = f.Pattern
	}
	if f.Format == "ip" {
		// Formats are notes by default in 2020-12; the parser checks.
		out["anyOf"] = []object{{"format": "ipv4"}, {"format": "ipv6"}}
	}
	return out
}

func (f *Field) mapSchema() object {
	out := object{"type": "object", "additionalProperties": object{"type": []string{"string", "number", "boolean"}}}
	if f.entry != nil {
		names := object{"pattern": f.entry.pattern}
		if len(f.entry.refused) > 0 {
			names["not"] = object{"enum": f.entry.refused}
		}
		out["propertyNames"] = names
	}
	return out
}
