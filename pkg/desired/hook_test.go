package desired

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/kv"
)

// What one hook's document says that can't be, and how that is said.
func TestHookDocuments(t *testing.T) {
	for text, want := range map[string]string{
		"events: ['*']\nwebhook: {url: http://localhost:8080}":   "",
		"before: [restart]\ncommand: {program: ask, on: infra1}": "",
		"events: ['*']": "expected webhook.url or command.program, found neither",
		"events: ['*']\nwebhook: {url: http://h}\ncommand: {program: a}":       "expected either webhook.url or command.program, found both",
		"webhook: {url: http://h}":                                             "expected something in events or before",
		"events: [leader]\nwebhook: {url: http://h}":                           `unknown kind of event "leader"`,
		"events: ['*']\nwebhook: {url: http://h}\nfilter: {nod: [pg1]}":        `unknown field "filter.nod"; did you mean "node"?`,
		"events: ['*']\nwebhook: {url: 'http://a:secret@h'}":                   "without a login or fragment, found another one",
		"events: ['*']\nwebhook: {url: 'http://h/#x'}":                         "without a login or fragment",
		"events: ['*']\nwebhook: {url: 'http:///x'}":                           "without a login or fragment",
		"events: ['*']\nwebhook: {url: 'http://h', ca_file: /etc/ca.crt}":      "expected an https address",
		"events: ['*']\nwebhook: {url: 'http://h'}\ncommand: {arguments: [x]}": "expected command.program with them",
		"events: ['*']\ncommand: {program: ../sh}":                             "without a folder",
		"events: ['*']\nwebhook: {url: http://h}\nretry_for: 169h":             "expected a duration from 0s to 168h",
	} {
		problems := Validate(l, l.ClusterDoc("c", "hooks/a"), []byte(text))
		said := Problems(problems).Error()
		if want == "" && len(problems) > 0 || want != "" && !strings.Contains(said, want) {
			t.Errorf("%s\ngot:  %s\nwant: %s", text, said, want)
		}
		if strings.Contains(said, "secret") {
			t.Errorf("a password is repeated: %s", said)
		}
	}
}

// A hook of the fleet that can't be used takes no other one with it, and a cluster's other
// documents are as they were.
func TestHooksStandAlone(t *testing.T) {
	m := kv.NewMap(
		kv.KV{Key: l.FleetHook("bad"), Value: []byte("x"), ModRevision: 2, CreateRevision: 2},
		kv.KV{Key: l.FleetHook("good"), Value: []byte("events: ['*']\nwebhook: {url: http://h}"), ModRevision: 3, CreateRevision: 3},
		kv.KV{Key: l.ClusterDoc("c", "hooks/bad"), Value: []byte("x"), ModRevision: 4, CreateRevision: 4},
	)
	hooks, problems := FleetHooks(m, l)
	if len(hooks) != 1 || hooks[0].Name != "good" || hooks[0].CreateRevision != 3 || !hooks[0].Fleetwide(l) || len(problems) != 1 {
		t.Errorf("hooks %v, problems %v", hooks, problems)
	}
	c := Load(m, l, "c")
	if len(c.Hooks) != 0 || len(c.Problems) != 1 || c.Invalid("postgres") || !c.Invalid("hooks") {
		t.Errorf("cluster: %v, %v", c.Hooks, c.Problems)
	}
}
