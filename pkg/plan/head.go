package plan

import (
	"bytes"
	"encoding/json"
	"errors"
)

// resourcesField begins the part of a stored plan that is nearly all of it. The bytes
// can't stand inside a string, where quotes are escaped.
var resourcesField = []byte(`,"resources":`)

// Head reads a stored plan without its resources, for those who ask whose plan it is
// and not what it says: a tenth of the work. Errors are those of Decode, but a fault
// in the resources is not found.
func Head(value []byte) (Plan, error) {
	i := bytes.Index(value, resourcesField)
	if i < 0 {
		return Decode(value)
	}
	p, err := Decode(append(bytes.Clone(value[:i]), '}'))
	if err != nil && !errors.Is(err, ErrSchema) {
		return Decode(value) // laid out by somebody else
	}
	return p, err
}

// patroniResource begins a resource of Patroni's dynamic configuration.
var patroniResource = []byte(`{"patroni":`)

// DynamicConfig reads Patroni's dynamic configuration out of a stored plan; nil when
// the plan has none, or none that can be read.
func DynamicConfig(value []byte) map[string]any {
	i := bytes.LastIndex(value, patroniResource)
	if i < 0 {
		return nil
	}
	var r Patroni
	if json.NewDecoder(bytes.NewReader(value[i:])).Decode(&r) != nil {
		return nil
	}
	return r.Config
}

// HasBackend reports whether a stored plan routes a HAProxy backend of that name.
func HasBackend(value []byte, backend string) bool {
	return bytes.Contains(value, []byte(`"`+backend+`":{"role":`))
}

// PooledBackend reports whether a stored plan routes that HAProxy backend to poolers.
func PooledBackend(value []byte, backend string) bool {
	_, rest, found := bytes.Cut(value, []byte(`"`+backend+`":{"role":`))
	until, _, _ := bytes.Cut(rest, []byte(`"servers":`))
	return found && bytes.Contains(until, []byte(`"pooled":true`))
}
