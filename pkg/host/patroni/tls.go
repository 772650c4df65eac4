package patroni

import (
	"bytes"
	"regexp"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/pgctrl/pgctrl/pkg/host/certificate"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// asPostgres looks at files as PostgreSQL does.
var asPostgres = certificate.Judge{User: "postgres"}

// filesOf are the files with what PostgreSQL shows, by its local parameters.
func filesOf(parameters map[string]any) certificate.Files {
	if parameters["ssl"] != "on" {
		return certificate.Files{}
	}
	text := func(name string) string { s, _ := parameters[name].(string); return s }
	return certificate.Files{Certificate: text("ssl_cert_file"), Key: text("ssl_key_file"), Authority: text("ssl_ca_file")}
}

// shows are those of a whole configuration.
func shows(doc map[string]any) certificate.Files {
	section, _ := doc["postgresql"].(map[string]any)
	parameters, _ := section["parameters"].(map[string]any)
	return filesOf(parameters)
}

var certFile = regexp.MustCompile(`(?m)^ +ssl_cert_file: "([^"]+)"$`)

// Expires is until when the certificate is good that a unit's PostgreSQL shows to clients,
// and its file; the zero time: it shows none, or nobody can read it.
func Expires(u plan.Unit) (at time.Time, file string) {
	for _, f := range u.Files {
		m := certFile.FindStringSubmatch(f.Content)
		if m == nil || !isConfig(f.Path) {
			continue
		}
		if leaf, err := certificate.Leaf(m[1]); err == nil {
			return leaf.NotAfter, m[1]
		}
	}
	return time.Time{}, ""
}

// Outside implements unit.Outsider.
func (p *Program) Outside(content map[string][]byte) string {
	for path, b := range content {
		var doc map[string]any
		// It is asked often, and for most there is nothing to parse.
		if isConfig(path) && bytes.Contains(b, []byte("ssl_cert_file")) && yaml.Unmarshal(b, &doc) == nil {
			return asPostgres.Outside(shows(doc), func(path string) bool { return content[path] != nil })
		}
	}
	return ""
}
