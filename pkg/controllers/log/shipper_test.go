package log

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// TestGoldenPromtail: files that promtail has accepted (tests/second asks it).
func TestGoldenPromtail(t *testing.T) {
	for name, s := range map[string]Shipper{
		"small": {Node: "pg1", Concern: "promtail", Number: 1, Endpoint: "http://10.10.10.10:3100", Port: 9080, Sources: []Source{
			{"pg-test", "pg-test-1", desired.LogStreams()},
		}},
		"rich": {Node: "db3", Concern: "promtail-2", Number: 2, Endpoint: "https://loki.example.org/logs", Port: 9081, Sources: []Source{
			{"a", "a-1", []string{"postgres", "pgagent"}},
			{"a-b", "", []string{"haproxy"}},
			{"c", "c.3", []string{"patroni", "pgbouncer", "pgbackrest"}},
		}},
	} {
		s.Layout = keys.Default
		controllertest.Golden(t, "testdata/"+name+".yml", []byte(s.Promtail()))
	}
}

// TestGoldenLoki: a file that Loki has accepted (tests/second asks it).
func TestGoldenLoki(t *testing.T) {
	got := lokiConfig(keys.Default, "infra1", []Kept{{"pg-test", 30 * desired.DefaultLogRetention}})
	controllertest.Golden(t, "testdata/loki.yml", []byte(got))
}
