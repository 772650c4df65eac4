package postgres

import (
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// restoring is how the first member makes its data out of another cluster's backup, which
// Patroni runs instead of initdb; nil when the cluster begins empty or has its data already.
type restoring struct {
	From, Moment string
	// Command takes the backup, Recovery is what PostgreSQL then replays, up to where.
	Command  string
	Recovery map[string]any
	// Config is pgBackRest's file for both.
	Config  plan.File
	secrets map[string]int64
}

// restoreFile is beside pgBackRest's own folder: what is in that is read as a whole, and
// the other cluster may have a file there on the same host.
func restoreFile(cluster string) string { return "/etc/pgbackrest/restore.d/" + cluster + ".conf" }

// restoreOf says how a member begins. Without ok a secret is missing, and the condition says
// which.
func restoreOf(in controllers.Input, t *topology.Topology, member string) (r *restoring, c observed.Condition, ok bool) {
	d := &t.Docs.Restore
	if !d.On() || member != t.Formed.First || initialized(in, t) {
		return nil, c, true
	}
	r = &restoring{From: d.Stanza, Moment: strings.TrimSpace(d.Target.Type + " " + d.Target.Value), secrets: map[string]int64{}}
	needs := []string{}
	if d.Encrypted() {
		needs = append(needs, keys.RestorePassphrase)
	}
	if d.Repository == desired.RepositoryS3 {
		needs = append(needs, keys.RestoreS3Key, keys.RestoreS3Secret)
	}
	for _, name := range needs {
		key := in.Layout.Secret(in.Cluster, name)
		e, found := in.Snapshot.Get(key)
		if !found || e.ModRevision <= 0 { // status, which can't see secrets, shows those in no plan at revision 0
			return nil, observed.Condition{
				Type: observed.Planned, Status: observed.False, Reason: observed.WaitingForSecret, Key: key,
				Message: fmt.Sprintf("the secret %q, without which the backups of %s can't be read, does not exist", name, d.Stanza),
				Next:    fmt.Sprintf("pgctrl secret set %s %s", in.Cluster, name),
			}, false
		}
		r.secrets[name] = e.ModRevision
	}
	config := restoreFile(in.Cluster)
	run := "pgbackrest --config=" + config + " --stanza=" + d.Stanza
	set := ""
	if d.Backup != "" {
		set = " --set=" + d.Backup
	}
	// pgBackRest wants the folder to be there, and Patroni runs no shell by itself. What
	// stands in the text was checked to have no quotes and no blanks.
	r.Command = fmt.Sprintf("sh -c 'mkdir -p -m 0700 %s && exec %s%s --type=none restore'", t.Formed.DataDirectory, run, set)
	r.Recovery = map[string]any{
		"restore_command":          run + ` archive-get %f "%p"`,
		"recovery_target_action":   "promote",
		"recovery_target_timeline": "latest",
	}
	switch d.Target.Type {
	case "latest":
	case "immediate":
		r.Recovery["recovery_target"] = "immediate"
	default:
		r.Recovery["recovery_target_"+d.Target.Type] = plan.RecoveryTarget{Type: d.Target.Type, Value: d.Target.Value}.Setting()
	}
	r.Config = plan.File{Path: config, Mode: "0640", Owner: "root:postgres", Content: restoreConfig(in, t)}
	return r, c, true
}

// initialized: Patroni has written the cluster's system identifier, so there are data.
func initialized(in controllers.Input, t *topology.Topology) bool {
	e, ok := in.Snapshot.Get(in.Layout.Scope(t.Formed.Scope) + "initialize")
	return ok && len(e.Value) > 0
}

// restoreConfig is what pgBackRest needs to read another cluster's repository. It writes
// nothing there: the new cluster archives into one of its own.
func restoreConfig(in controllers.Input, t *topology.Topology) string {
	d := &t.Docs.Restore
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# How cluster %s reads the backups of %s that it begins with. Written by pgctrl from", in.Cluster, d.Stanza)
	line("# %s; an edit here is put back, and it goes when the", in.Layout.ClusterDoc(in.Cluster, "restore"))
	line("# cluster has its data.")
	line("[%s]", d.Stanza)
	line("pg1-path=%s", t.Formed.DataDirectory)
	line("log-path=/var/log/pgbackrest")
	line("spool-path=/var/spool/pgbackrest")
	line("process-max=2")
	line("repo1-path=%s", d.Folder)
	if d.Encrypted() {
		line("repo1-cipher-type=%s", d.Cipher)
		line("repo1-cipher-pass=%s", plan.SecretRef(keys.RestorePassphrase, plan.FormatINI))
	}
	if d.Repository != desired.RepositoryS3 {
		line("repo1-type=posix")
		return b.String()
	}
	s := &d.S3
	line("repo1-type=s3")
	line("repo1-s3-endpoint=%s", s.Endpoint)
	line("repo1-s3-bucket=%s", s.Bucket)
	line("repo1-s3-region=%s", s.Region)
	line("repo1-s3-uri-style=%s", s.URIStyle)
	line("repo1-s3-key=%s", plan.SecretRef(keys.RestoreS3Key, plan.FormatINI))
	line("repo1-s3-key-secret=%s", plan.SecretRef(keys.RestoreS3Secret, plan.FormatINI))
	if s.CAFile != "" {
		line("repo1-storage-ca-file=%s", s.CAFile)
	}
	if !s.VerifyTLS {
		line("repo1-storage-verify-tls=n")
	}
	return b.String()
}
