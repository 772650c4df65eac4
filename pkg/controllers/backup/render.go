package backup

import (
	_ "embed" // the template
	"fmt"
	"strings"
	"text/template"

	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

//go:embed backup.conf.tmpl
var source string

var file = template.Must(template.New("backup.conf").Delims("[[", "]]").Funcs(template.FuncMap{
	"secret": func(name string) string { return plan.SecretRef(name, plan.FormatINI) },
	"yes":    func(b bool) string { return map[bool]string{true: "y", false: "n"}[b] },
}).Parse(source))

const (
	// postgresSocket is where every member's PostgreSQL has its socket (patroni.yml).
	postgresSocket = "/var/run/postgresql"
	// spool is Debian's folder for what archive-async has to remember, which belongs to
	// postgres. Each cluster has a folder of its own in it that goes by its uid: an answer
	// about a segment of an earlier cluster would pass for one about this cluster's, and
	// PostgreSQL would drop WAL that nobody has.
	spool = "/var/spool/pgbackrest/"
)

// configOf is the file of one node.
func configOf(l keys.Layout, t *topology.Topology, node string) plan.Watched {
	d, cluster := &t.Docs.Backup, t.Docs.Name
	folder := plan.BackupFolder(cluster, t.Formed.UID)
	v := struct {
		Layout                      keys.Layout
		Cluster, Node, File         string
		Doc                         *desired.Backup
		Data, Socket, Path, Spool   string
		Port                        int
		S3                          bool
		S3Key, S3Secret, Passphrase string
		QueueMax                    int64
	}{
		Layout: l, Cluster: cluster, Node: node, File: plan.BackupConfig(cluster), Doc: d,
		Data: t.Formed.DataDirectory, Socket: postgresSocket, Path: d.Folder(folder), Spool: spool + folder,
		Port: t.Formed.Port, S3: d.Repository == desired.RepositoryS3,
		S3Key: keys.BackupS3Key, S3Secret: keys.BackupS3Secret, Passphrase: keys.BackupPassphrase,
		QueueMax: d.ArchiveQueueMax.Bytes(),
	}
	var b strings.Builder
	if err := file.Execute(&b, v); err != nil {
		panic(fmt.Sprintf("render pgBackRest's file: %v", err)) // plain data and our own template
	}
	return plan.Watched{File: v.File, Mode: "0640", Owner: "root:postgres", Content: b.String()}
}
