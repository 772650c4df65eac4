// Package certificate says what the programs of a cluster show to clients that come with
// TLS: files by path, or a certificate of the cluster's own. Controllers postgres and
// pgbouncer plan with the same answer.
//
// The name of a certificate of our own is a hash of the names in it and of the period it
// is made in. So another address, or time, asks for another certificate by itself: it is
// made (Mint), plans move to it node by node, and the older one goes when nobody has it
// any more. Until it is there plans stay with the one that they have.
package certificate

import (
	"fmt"
	"maps"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Use is what one program shows, and how.
type Use struct {
	// Require: nobody comes over the network without TLS.
	Require bool
	// Certificate, Key and Authority are paths on the host; Authority may be empty.
	Certificate, Key, Authority string
	// Files are those of them that the plan brings, and Secrets what is in them.
	Files   []plan.File
	Secrets map[string]int64
}

// For is what a concern's program shows; nil: the cluster has no TLS. dir is where the
// program has its files. With conditions nothing may be planned: the last good plans stay.
// The documents postgres and members are loaded.
func For(in controllers.Input, t *topology.Topology, concern, dir string) (*Use, []observed.Condition) {
	doc := &t.Docs.Postgres
	if !doc.HasTLS() {
		return nil, nil
	}
	if !t.Understood(plan.SchemaTLS) {
		return nil, []observed.Condition{{
			Type: observed.Planned, Status: observed.False, Reason: observed.UnsupportedSchema, Key: in.Layout.Prefix(keys.Alive),
			Message: "an agent of the cluster's nodes is of an earlier version that knows nothing of TLS; everything is left as it is",
			Next:    "pgctrl node list (shows which agents are older)",
		}}
	}
	u := &Use{
		Require: doc.TLS == require, Certificate: doc.TLSCertificate, Key: doc.TLSKey, Authority: doc.TLSAuthority,
		Secrets: map[string]int64{},
	}
	if !own(t) {
		return u, nil
	}
	name, rev := Choose(in, t, concern, Wanted(in, t), isCertificate)
	authority := revision(in, keys.TLSAuthority)
	if rev == 0 || authority == 0 {
		return nil, []observed.Condition{{
			Type: observed.Planned, Status: observed.False, Reason: observed.WaitingForSecret, Key: in.Layout.Secret(in.Cluster, Wanted(in, t)),
			Message: "the cluster's certificate is being made",
		}}
	}
	u.Certificate = dir + "/" + in.Cluster + ".tls.pem"
	u.Key = u.Certificate // one file, so that no moment has the one without the other
	u.Secrets[name] = rev
	u.Files = append(u.Files, plan.File{
		Path: u.Certificate, Mode: "0640", Owner: "root:postgres", Content: header(in, "certificate, with its key") + pem(name),
	})
	if u.Authority == "" {
		u.Authority = dir + "/" + in.Cluster + ".authority.pem"
		u.Secrets[keys.TLSAuthority] = authority
		u.Files = append(u.Files, plan.File{
			Path: u.Authority, Mode: "0644", Owner: "root:root", Content: header(in, "authority, which clients trust") + pem(keys.TLSAuthority),
		})
	}
	return u, nil
}

// In puts it into a plan, whose first resource is the program's unit.
func (u *Use) In(p *plan.Plan) {
	if u == nil {
		return
	}
	p.Schema = max(p.Schema, plan.SchemaTLS)
	first := p.Resources[0].(plan.Unit)
	first.Files = append(first.Files, u.Files...)
	p.Resources[0] = first
	secrets := maps.Clone(p.Secrets)
	maps.Copy(secrets, u.Secrets)
	p.Secrets = secrets
}

// own reports whether the certificate is one that pgctrl makes.
func own(t *topology.Topology) bool {
	return t.Docs.Postgres.HasTLS() && t.Docs.Postgres.TLSCertificate == ""
}

func pem(name string) string { return plan.SecretRef(name, plan.FormatPEM) + "\n" }

func header(in controllers.Input, what string) string {
	return fmt.Sprintf("# Cluster %s: its %s. Made and renewed by pgctrl, as %s says;\n# an edit here is put back.\n"+
		"#   change it:      pgctrl set %[1]s postgres tls_certificate=/path/to/your.crt tls_key=/path/to/your.key     (pgctrl explain postgres)\n"+
		"#   leave it alone: touch /etc/pgctrl/freeze.%[1]s     (on this node; until that file is removed)\n",
		in.Cluster, what, in.Layout.ClusterDoc(in.Cluster, "postgres"))
}

// Choose is the secret that plans of a concern name now, of those that is reports: the wanted
// one once it is there, else the newest that they have; revision 0: there is none.
func Choose(in controllers.Input, t *topology.Topology, concern, wanted string, is func(secret string) bool) (name string, rev int64) {
	if rev = revision(in, wanted); rev > 0 {
		return wanted, rev
	}
	name = wanted
	for _, s := range t.AllStored(in, concern) {
		for stored := range s.Head.Secrets {
			if r := revision(in, stored); is(stored) && s.Head.UID == t.Formed.UID && r > rev {
				name, rev = stored, r
			}
		}
	}
	return name, rev
}

// isCertificate reports whether a secret is a server's certificate.
func isCertificate(secret string) bool {
	return strings.HasPrefix(secret, keys.TLSSecret("")) && secret != keys.TLSAuthority
}

// revision of a secret; 0: it is not there. Who can't see secrets is shown those that no
// plan names at 0, too.
func revision(in controllers.Input, name string) int64 {
	e, ok := in.Snapshot.Get(in.Layout.Secret(in.Cluster, name))
	if !ok {
		return 0
	}
	return e.ModRevision
}
