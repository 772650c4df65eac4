package configs

import "bytes"

// PackagedAgent is where packages install the agent; unit files name it there.
const PackagedAgent = "/usr/bin/pgagent"

// Template is a unit file from which an agent makes units.
type Template struct {
	Content []byte
	// Vendor says that the distribution's own is used where there is one.
	Vendor bool
}

// AgentTemplates returns the unit files that plans' units are made from, by name,
// with the path of the running agent in them.
func AgentTemplates(agent string) (map[string]Template, error) {
	out := map[string]Template{}
	for name, vendor := range map[string]bool{
		"haproxy@.service": false, "pgbouncer@.service": false, "patroni@.service": true,
		"postgres-exporter@.service": false, "pgbouncer-exporter@.service": false, "pgctrl-prometheus.service": false,
		"pgbackrest-server@.service": false,
		"pgctrl-promtail@.service":   false, "pgctrl-loki.service": false,
	} {
		b, err := Unit(name)
		if err != nil {
			return nil, err
		}
		b = bytes.ReplaceAll(b, []byte(PackagedAgent+" "), []byte(agent+" "))
		out[name] = Template{Content: b, Vendor: vendor}
	}
	return out, nil
}
