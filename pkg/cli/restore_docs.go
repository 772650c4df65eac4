package cli

import (
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// alongside are the kinds of documents that describe what is inside the data, and so come
// along with them.
var alongside = []string{"users/", "databases/", "hba/"}

// restoredDocuments composes the documents of a cluster that begins with another one's
// backup: its own members and ports, what is inside the data as the other one describes it,
// and where the data come from.
func (a *app) restoredDocuments(l *live, r restoring, s *source) (change, []string, error) {
	r.version = s.formed.Version
	c, said, err := a.documentsOf(l, r.newCluster)
	if err != nil {
		return c, nil, err
	}
	c.secrets = map[string][]byte{}
	to := func(doc string) string { return l.layout.ClusterDoc(r.name, doc) }
	for _, e := range l.Range(l.layout.ClusterDocs(r.from)) {
		doc := strings.TrimPrefix(e.Key, l.layout.ClusterDocs(r.from))
		for _, kind := range alongside {
			// What the other one is to drop is what somebody may want to have back.
			if strings.HasPrefix(doc, kind) && !dropped(s.docs, doc) {
				c.writes[to(doc)] = e.Value
			}
		}
	}
	for _, e := range l.Range(l.layout.ClusterSecrets(r.from)) {
		name := strings.TrimPrefix(e.Key, l.layout.ClusterSecrets(r.from))
		if strings.HasPrefix(name, keys.UserSecret("")) {
			c.secrets[l.layout.Secret(r.name, name)] = e.Value
		}
	}
	var parameters []string
	for _, e := range s.docs.Effective("postgres") {
		if strings.HasPrefix(e.Field, "parameters.") && e.Key == l.layout.ClusterDoc(r.from, "postgres") {
			parameters = append(parameters, fmt.Sprintf("%s=%q", e.Field, e.Value))
		}
	}
	if len(parameters) > 0 {
		if c.writes[to("postgres")], err = desired.SetFields("postgres", c.writes[to("postgres")], parameters); err != nil {
			return c, nil, problemsOf(l, err)
		}
	}
	if c.writes[to("restore")], err = desired.SetFields("restore", nil, r.fields(s)); err != nil {
		return c, nil, problemsOf(l, err)
	}
	for secret, of := range map[string]string{keys.RestorePassphrase: keys.BackupPassphrase, keys.RestoreS3Key: keys.BackupS3Key, keys.RestoreS3Secret: keys.BackupS3Secret} {
		if e, ok := l.Get(l.layout.Secret(r.from, of)); ok {
			c.secrets[l.layout.Secret(r.name, secret)] = e.Value
		}
	}
	// Where the fleet's defaults have it archive into the other one's store, it takes the same keys.
	if b, own := s.docs.Backup, desired.Load(desired.Overlay(l, c.writes), l.layout, r.name, "backup").Backup; b.Repository == desired.RepositoryS3 &&
		own.Repository == b.Repository && own.S3.Endpoint == b.S3.Endpoint && own.S3.Bucket == b.S3.Bucket {
		for _, name := range []string{keys.BackupS3Key, keys.BackupS3Secret} {
			if e, ok := l.Get(l.layout.Secret(r.from, name)); ok {
				c.secrets[l.layout.Secret(r.name, name)] = e.Value
			}
		}
	}
	return c, said, nil
}

// dropped reports whether a document says that what it is about goes: in the new cluster it
// would drop what was just restored.
func dropped(docs *desired.Cluster, doc string) bool {
	kind, name, _ := strings.Cut(doc, "/")
	switch kind {
	case "users":
		u := docs.Users[name]
		return u != nil && u.Absent()
	case "databases":
		d := docs.Databases[name]
		return d != nil && d.Absent()
	}
	return false
}

// fields is where the data come from, as assignments of the document restore.
func (r *restoring) fields(s *source) []string {
	b := &s.docs.Backup
	out := []string{
		"stanza=" + r.from, "repository=" + b.Repository, "folder=" + b.Folder(s.folder), "cipher=" + b.Cipher,
		"backup=" + s.backup.Label, "target.type=" + string(r.target.Type),
	}
	if r.target.Value != "" {
		out = append(out, fmt.Sprintf("target.value=%q", r.target.Value))
	}
	if b.Repository == desired.RepositoryS3 {
		out = append(out, "s3.endpoint="+b.S3.Endpoint, "s3.bucket="+b.S3.Bucket, "s3.region="+b.S3.Region, "s3.uri_style="+b.S3.URIStyle,
			fmt.Sprintf("s3.verify_tls=%v", b.S3.VerifyTLS))
		if b.S3.CAFile != "" {
			out = append(out, "s3.ca_file="+b.S3.CAFile)
		}
	}
	return out
}
