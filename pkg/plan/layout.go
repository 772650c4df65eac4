package plan

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// resourcesField begins the part of a stored plan that is nearly all of it. The bytes
// can't stand inside a string, where quotes are escaped.
var resourcesField = []byte(`,"resources":`)

// addressResource begins a virtual address, patroniResource a resource of Patroni's
// dynamic configuration, parametersField the PostgreSQL parameters in it as Encode lays
// them out, roleField follows the name of a HAProxy backend, and pooledField is between
// that and serversField in one that leads to poolers. None of them can stand inside a
// string.
var (
	addressResource = []byte(`{"address":"`)
	patroniResource = []byte(`{"patroni":`)
	parametersField = []byte(`"postgresql":{"parameters":`)
	roleField       = []byte(`":{"role":`)
	pooledField     = []byte(`"pooled":true`)
	serversField    = []byte(`"servers":`)
)

// parameterNames are the PostgreSQL parameters in the stored form of resources, sorted.
func parameterNames(resources []byte) []string {
	i := bytes.LastIndex(resources, patroniResource)
	if i < 0 {
		return nil
	}
	var parameters map[string]json.RawMessage
	read := func(at int, into any) bool {
		return json.NewDecoder(bytes.NewReader(resources[at:])).Decode(into) == nil
	}
	if j := bytes.Index(resources[i:], parametersField); j >= 0 {
		_ = read(i+j+len(parametersField), &parameters) // what can't be read names nothing
		return slices.Sorted(maps.Keys(parameters))
	}
	var r struct {
		Config struct {
			PostgreSQL struct{ Parameters map[string]json.RawMessage }
		}
	}
	_ = read(i, &r)
	return slices.Sorted(maps.Keys(r.Config.PostgreSQL.Parameters))
}

// backendNames are the HAProxy backends that have a route in the stored form of
// resources, in their order.
func backendNames(resources []byte) (names []string) {
	for rest := resources; ; {
		end := bytes.Index(rest, roleField)
		if end < 0 {
			return names
		}
		names = append(names, string(rest[bytes.LastIndexByte(rest[:end], '"')+1:end]))
		rest = rest[end+len(roleField):]
	}
}

// pooledNames are those backends whose servers are poolers, in their order.
func pooledNames(resources []byte) (names []string) {
	for rest := resources; ; {
		end := bytes.Index(rest, roleField)
		if end < 0 {
			return names
		}
		name := string(rest[bytes.LastIndexByte(rest[:end], '"')+1 : end])
		rest = rest[end+len(roleField):]
		if until, _, _ := bytes.Cut(rest, serversField); bytes.Contains(until, pooledField) {
			names = append(names, name)
		}
	}
}

// addressNames are the virtual addresses in the stored form of resources, each with its
// prefix length, in their order.
func addressNames(resources []byte) (names []string) {
	for rest := resources; ; {
		_, after, ok := bytes.Cut(rest, addressResource)
		if !ok {
			return names
		}
		name, more, _ := bytes.Cut(after, []byte{'"'}) // no part of an address is ever escaped
		names, rest = append(names, string(name)), more
	}
}
