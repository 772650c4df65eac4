package backup

import (
	_ "embed" // the template
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/certificate"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// This file is for backups that are copied from a replica: the primary's pgBackRest reads that
// member's files through a server on its node, and both show the cluster's one certificate.
// Having its key means to be postgres on their hosts, as every member's host has it anyway.

// peerPart is the part of the secrets that these certificates are.
var peerPart = strings.TrimSuffix(keys.BackupTLSSecret(""), "/")

//go:embed server.conf.tmpl
var serverSource string

var serverFile = template.Must(template.New("server.conf").Delims("[[", "]]").Parse(serverSource))

// peers is the certificate that members' plans name now; the zero value: there is none.
type peers struct {
	secret   string
	revision int64
}

// peersOf asks for the certificate that the members should have, and for the deletion of those
// that nobody has any more. A backup never waits for one, nor for a port that is somebody else's:
// it is copied from the primary.
func peersOf(in controllers.Input, t *topology.Topology, cs []observed.Condition) (p peers, out []controllers.Output, after time.Duration) {
	if t.Removing {
		return p, forgetPeers(in, t), 0
	}
	keep := map[string]bool{}
	taken := slices.ContainsFunc(cs, func(c observed.Condition) bool { return c.Reason == observed.PortConflict })
	if t.Docs.Backup.FromReplica() && !taken {
		names := addresses(t)
		wanted := keys.BackupTLSSecret(certificate.Hash(in, t, names))
		keep[wanted] = true
		out = append(out, controllers.Output{
			Key: in.Layout.Secret(in.Cluster, wanted), Mode: controllers.Mint,
			Recipe: controllers.Recipe{Kind: controllers.Peer, Name: in.Cluster, Names: names},
		})
		if name, rev := certificate.Choose(in, t, Concern, wanted, isPeer); rev > 0 {
			p = peers{name, rev}
		}
		_, ends := certificate.Turn(t, in.Now)
		after = ends.Sub(in.Now)
	}
	return p, append(out, certificate.Unused(in, t, in.Layout.BackupTLSSecrets(in.Cluster), []string{Concern}, keep)...), after
}

// addresses are those at which members are connected to; sorted.
func addresses(t *topology.Topology) []string {
	set := map[string]bool{}
	for _, m := range t.Members {
		set[m.Address] = true
	}
	delete(set, "")
	return slices.Sorted(maps.Keys(set))
}

func isPeer(secret string) bool { return strings.HasPrefix(secret, keys.BackupTLSSecret("")) }

// in puts the server of a member's node into its plan, or says there that it is to go. A member
// that replays late has none: a backup would wait for it to reach its own beginning.
func (c peers) in(in controllers.Input, t *topology.Topology, m *desired.Member, p *plan.Plan) {
	own, ok := p.Cluster.Own()
	if !ok || own.Address == "" {
		return
	}
	if m.Delayed() {
		c = peers{}
	}
	u := plan.Unit{Unit: plan.BackupServerUnit(in.Cluster), Program: plan.BackupServer, Files: []plan.File{}}
	switch {
	case c.revision == 0 && !serves(in, t, own.Node):
		return
	case c.revision == 0:
		u.Absent = true
	default:
		u.Files = []plan.File{
			{Path: plan.BackupServerConfig(in.Cluster), Mode: "0644", Owner: "root:root", Content: serverConfig(in, t, own)},
			{Path: plan.BackupPeerFile(in.Cluster), Mode: "0640", Owner: "root:postgres", Content: peerHeader(in) + plan.SecretRef(c.secret, plan.FormatPEM) + "\n"},
		}
		p.Secrets[c.secret] = c.revision
	}
	p.Schema = max(p.Schema, plan.SchemaRestore)
	p.Resources = append(p.Resources, u)
}

// serves reports whether the node's plan has a server, or says that it is to go.
func serves(in controllers.Input, t *topology.Topology, node string) bool {
	s := t.Stored(in, node, Concern)
	if s == nil {
		return false
	}
	p, ok := s.Whole()
	return ok && slices.ContainsFunc(p.Resources, func(r plan.Resource) bool {
		u, is := r.(plan.Unit)
		return is && u.Program == plan.BackupServer
	})
}

func serverConfig(in controllers.Input, t *topology.Topology, own plan.Member) string {
	v := struct {
		Layout                      keys.Layout
		Cluster, Node, Listen, Peer string
		Port                        int
	}{in.Layout, in.Cluster, own.Node, "*", plan.BackupPeerFile(in.Cluster), t.Docs.Backup.ServerPort}
	if strings.Contains(own.Address, ":") {
		v.Listen = "::"
	}
	var b strings.Builder
	if err := serverFile.Execute(&b, v); err != nil {
		panic(fmt.Sprintf("render pgBackRest's server: %v", err)) // plain data and our own template
	}
	return b.String()
}

func peerHeader(in controllers.Input) string {
	return fmt.Sprintf("# Cluster %s: by this its members' pgBackRest know one another. Made and renewed by pgctrl;\n# an edit here is put back.\n", in.Cluster)
}

// forgetPeers deletes all of them with the last plans of a cluster that is removed: nobody may be
// asked again after that.
func forgetPeers(in controllers.Input, t *topology.Topology) (out []controllers.Output) {
	for _, s := range t.AllStored(in, Concern) {
		if !s.Removed() {
			return nil
		}
	}
	for _, e := range in.Snapshot.Range(in.Layout.BackupTLSSecrets(in.Cluster)) {
		out = append(out, controllers.Output{Key: e.Key, Mode: controllers.Delete})
	}
	return out
}
