package desired

import (
	"fmt"
	"regexp"
)

// Restore is where the data of a cluster come from that begins with another one's backup:
// restore. It is read once, when the cluster forms.
type Restore struct {
	Meta       `yaml:"-"`
	Stanza     string `yaml:"stanza" own:"true" format:"cluster" pattern:"^[a-z][a-z0-9-]{0,39}$" effect:"none" note:"none: the cluster begins empty" example:"pg-test" says:"The cluster whose backups they are."`
	Repository string `yaml:"repository" own:"true" default:"local" enum:"local,s3" effect:"none" example:"s3" says:"Where the backups are: in a folder of the first member's host, or in an object store that speaks S3."`
	Folder     string `yaml:"folder" own:"true" format:"path" pattern:"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$" effect:"none" note:"none" example:"/var/lib/pgbackrest/pg-test-272f20c8" says:"The folder with that cluster's backups, which ends in the beginning of its uid."`
	S3         S3     `yaml:"s3"`
	Cipher     string `yaml:"cipher" own:"true" default:"none" enum:"none,aes-256-cbc" effect:"none" example:"aes-256-cbc" says:"How they are encrypted, with the secret restore-passphrase."`
	Backup     string `yaml:"backup" own:"true" pattern:"^[0-9]{8}-[0-9]{6}F(_[0-9]{8}-[0-9]{6}[DI])?$" format:"label" effect:"none" note:"the newest" example:"20261126-010000F" says:"The backup to begin with."`
	Target     struct {
		Type  string `yaml:"type" own:"true" default:"latest" enum:"latest,immediate,time,name,lsn,xid" effect:"none" example:"time" says:"Where recovery ends: at the end of the archive, as soon as the backup is consistent, or at the value."`
		Value string `yaml:"value" own:"true" pattern:"^[A-Za-z0-9_.:+/ -]{1,63}$" format:"target" effect:"none" note:"none" example:"2026-11-26 12:30:00+00" says:"The moment with its time zone, the name of a restore point, the position in WAL or the transaction."`
	} `yaml:"target"`
}

// On reports whether the cluster begins with a backup.
func (r *Restore) On() bool { return r.Stanza != "" }

// Encrypted reports whether the backups take a passphrase.
func (r *Restore) Encrypted() bool { return r.Cipher != CipherNone }

// targets are the values that PostgreSQL takes. It reads them when everything is copied, and
// one that it does not take ends the restore there. A moment without a zone would be in
// whichever zone the server has.
var targets = map[string]struct {
	form *regexp.Regexp
	want string
}{
	"time": {regexp.MustCompile(`^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)? ?(Z|UTC|[+-]\d\d(:?\d\d)?)$`), "a moment with its time zone such as 2026-11-26 12:30:00+01"},
	"lsn":  {regexp.MustCompile(`^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$`), "a position in WAL such as 0/5000110"},
	"xid":  {regexp.MustCompile(`^[0-9]{1,19}$`), "the number of a transaction such as 734"},
}

func checkRestore(d *resolved) []Problem {
	r := d.doc.(*Restore)
	var out []Problem
	if t, is := targets[r.Target.Type]; is && r.Target.Value != "" && !t.form.MatchString(r.Target.Value) {
		out = append(out, d.problem("target.value", "expected %s, found %q", t.want, r.Target.Value))
	}
	if !r.On() && len(d.set.paths()) > 0 {
		out = append(out, d.problem(d.set.paths()[0], "expected stanza too, without which the cluster begins empty, found nothing"))
	}
	if r.On() && r.Folder == "" {
		out = append(out, d.problem("stanza", "expected folder too, which says where the backups of %s are, found nothing", r.Stanza))
	}
	if r.On() && r.Repository == RepositoryS3 && (r.S3.Endpoint == "" || r.S3.Bucket == "") {
		out = append(out, d.problem("repository", "expected s3.endpoint and s3.bucket too, without which an object store can't be found"))
	}
	if needs := r.Target.Type != "latest" && r.Target.Type != "immediate"; needs != (r.Target.Value != "") {
		out = append(out, d.problem("target.type", "%s", map[bool]string{
			true:  fmt.Sprintf("expected target.value too, the %s, found nothing", r.Target.Type),
			false: fmt.Sprintf("expected no target.value with %s, found %q", r.Target.Type, r.Target.Value),
		}[needs]))
	}
	return out
}

var _ = register(Kind{
	Name:    "restore",
	Meaning: "The backup of another cluster that this one began with, and the moment that was restored; written by pgctrl restore, read when the cluster forms.",
	check:   checkRestore,
	store:   func(c *Cluster, _ string, doc any) { c.Restore = *doc.(*Restore) },
}, Restore{}, nil)
