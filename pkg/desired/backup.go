package desired

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/internal/schedule"
)

// Backup is where the cluster's backups and WAL are kept, and when backups are made:
// backup.
type Backup struct {
	Meta       `yaml:"-"`
	Enabled    bool   `yaml:"enabled" default:"true" effect:"reload" example:"false" says:"false ends archiving and backups; the repository and what is in it stay."`
	Repository string `yaml:"repository" default:"local" enum:"local,s3" effect:"reload" example:"s3" says:"Where backups are kept: in a folder of each member's own host (which does not outlive that host, unless the folder is a file system that the hosts share), or in an object store that speaks S3. Another one begins empty, and backups that were made stay where they are."`
	Path       string `yaml:"path" format:"path" pattern:"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$" note:"/var/lib/pgbackrest; with repository s3: /pgctrl" effect:"reload" example:"/backup/pgbackrest" says:"The folder that has one for each cluster, named after the cluster and the beginning of its uid, so that a later cluster of the same name never meets what an earlier one left."`
	S3         S3     `yaml:"s3"`
	Cipher     string `yaml:"cipher" enum:"none,aes-256-cbc" note:"none; with repository s3: aes-256-cbc" effect:"reload" example:"aes-256-cbc" says:"How everything in the repository is encrypted, with the secret backup-passphrase, without which nothing in it can be read. A repository has one cipher for good: where there are backups, give another path too."`
	Compress   string `yaml:"compress" default:"zst" enum:"zst,lz4,gz,none" effect:"reload" example:"lz4" says:"How backups and WAL are compressed from now on; what is there can be read all the same."`
	ProcessMax int    `yaml:"process_max" default:"2" min:"1" max:"64" effect:"reload" unit:"processes" example:"4" says:"How many processes compress and copy at once, for a backup, a restore and WAL that piled up."`
	From       string `yaml:"from" default:"primary" enum:"primary,replica" effect:"reload" example:"replica" says:"From whom the files of a backup are copied. replica: from one that streams, whose host reads and compresses them; the primary says where WAL begins and ends, copies the few files that are its own, and writes into the repository. Where no replica can be copied, and after a try that failed, the primary is. Each member's node runs pgBackRest's server for it."`
	ServerPort int    `yaml:"server_port" default:"8432" min:"1024" max:"65535" effect:"reload" example:"8532" says:"Where pgBackRest's server listens on members' nodes, with from replica; pgBackRest's own. It knows nobody who does not show the cluster's own certificate."`
	Schedules  struct {
		Full         string `yaml:"full" note:"0 1 * * *; with repository s3: 0 1 * * 0" format:"schedule" effect:"none" example:"30 2 * * 6" says:"When a full backup is due: minute, hour, day of the month, month, day of the week (0 is Sunday), or a word such as @daily; none is never. It copies everything."`
		Differential string `yaml:"differential" note:"none" format:"schedule" effect:"none" example:"30 2 * * 3" says:"When a differential backup is due, which copies what changed since the last full one. Of several that are due at once the one that copies most is made."`
		Incremental  string `yaml:"incremental" note:"none; with repository s3: 0 1 * * 1-6" format:"schedule" effect:"none" example:"0 */6 * * *" says:"When an incremental backup is due, which copies what changed since the last one of any type."`
	} `yaml:"schedules"`
	Verify struct {
		Schedule string   `yaml:"schedule" default:"0 4 * * 0" format:"schedule" effect:"none" example:"0 4 * * 0" says:"When it is proved that the newest backup can be restored, as the schedules of backups are written; none is never by itself. It is restored beside a member's data, recovered to the newest WAL where it can reach nothing, looked through page by page, and removed; its node needs room for it."`
		Node     string   `yaml:"node" format:"node" effect:"none" note:"a replica's; with repository local: the primary's" example:"pg3" says:"The member's node on which that is done. With repository local only the one that leads has the backups."`
		Stale    Duration `yaml:"stale" default:"15d" min:"0s" max:"3650d" effect:"none" example:"40d" says:"How old the newest proof may be until the cluster is not healthy (VerificationStale); 0s is as old as it likes. Two of the default schedule, and a day."`
	} `yaml:"verify"`
	TimeZone  string `yaml:"time_zone" default:"UTC" effect:"none" example:"Europe/Berlin" says:"The IANA name of the time zone that the schedules are in. What falls into the hour that clocks skip is due when they have, and into the one that they repeat, the first time."`
	Retention struct {
		Full         int `yaml:"full" default:"2" min:"1" max:"999999" effect:"reload" unit:"backups" example:"7" says:"How many full backups are kept, with what builds on them and all WAL since the oldest; when one more is complete the oldest goes."`
		Differential int `yaml:"differential" default:"0" min:"0" max:"999999" effect:"reload" unit:"backups" example:"3" says:"How many differential backups are kept; 0 keeps each for as long as the full one that it builds on."`
	} `yaml:"retention"`
	ReplicasFromRepository string `yaml:"replicas_from_repository" default:"auto" enum:"auto,always,never" effect:"reload" example:"never" says:"Whether a new member gets its data out of the repository instead of the primary. auto: where that is faster, which is decided in that moment, with repository s3. always: wherever the repository has a backup and all WAL since, a folder that the hosts share included. Where it does not do, the primary is copied. With auto and s3, and with always, a replica that has fallen behind what the primary keeps gets WAL from there too."`
	ArchiveQueueMax        Size   `yaml:"archive_queue_max" note:"none: no WAL is ever dropped" effect:"reload" example:"64GB" says:"How much WAL may wait for a repository that does not take it. Beyond it pgBackRest DROPS the WAL that waits, so that the disk does not fill: point-in-time recovery then has a gap until the next backup. Without it, or at 0B, WAL waits until the repository is back or the disk is full, where PostgreSQL stops."`
}

// S3 is where an object store is, and how to speak to it.
type S3 struct {
	Endpoint  string `yaml:"endpoint" format:"endpoint" pattern:"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\\.)*[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?(:[0-9]{1,5})?$" note:"none: repository s3 needs one" effect:"reload" example:"s3.example.org:9000" says:"The name of the store's host and, if it is not 443, its port; always TLS. A name and no address, because pgBackRest 2.45 looks for nothing but names in a certificate."`
	Bucket    string `yaml:"bucket" format:"bucket" pattern:"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$" note:"none: repository s3 needs one" effect:"reload" example:"pg-backups" says:"The bucket, which exists; many clusters may share it."`
	Region    string `yaml:"region" default:"us-east-1" format:"region" pattern:"^[A-Za-z0-9-]{1,63}$" effect:"reload" example:"eu-central-1" says:"The region that requests are signed for; MinIO takes any unless it was given one."`
	URIStyle  string `yaml:"uri_style" default:"path" enum:"path,host" effect:"reload" example:"host" says:"Whether the bucket is in the address behind the host's name, as MinIO and most others want it, or before it (bucket.endpoint), as Amazon does."`
	CAFile    string `yaml:"ca_file" format:"path" pattern:"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$" note:"the authorities that the host trusts" effect:"reload" example:"/etc/ssl/minio/ca.crt" says:"The file with the authority that signed the store's certificate, on every member's node, which the user postgres can read."`
	VerifyTLS bool   `yaml:"verify_tls" default:"true" effect:"reload" example:"false" says:"false takes any certificate: whoever sits between the hosts and the store reads and changes what passes."`
}

// The words of repository and cipher.
const (
	RepositoryLocal = "local"
	RepositoryS3    = "s3"
	CipherNone      = "none"
)

// The words of replicas_from_repository.
const (
	ReplicasAuto   = "auto"
	ReplicasAlways = "always"
	ReplicasNever  = "never"
)

// FromReplica reports whether backups are copied from a replica where that can be done.
func (b *Backup) FromReplica() bool { return b.On() && b.From == "replica" }

// Shared reports whether members may take data and WAL out of the repository: all of them reach
// the same one, as far as the document can tell.
func (b *Backup) Shared() bool {
	switch b.ReplicasFromRepository {
	case ReplicasNever:
		return false
	case ReplicasAlways:
		return b.On()
	}
	return b.On() && b.Repository == RepositoryS3
}

// On reports whether the cluster is to be archived and backed up.
func (b *Backup) On() bool { return b.Enabled }

// Encrypted reports whether the repository takes a passphrase.
func (b *Backup) Encrypted() bool { return b.Cipher != CipherNone }

// Where names the repository of a cluster in one word, without secrets: the same that agents
// have for it in observed.Repository.
func (b *Backup) Where(folder string) string {
	if b.Repository == RepositoryS3 {
		return RepositoryS3 + ":" + b.S3.Endpoint + "/" + b.S3.Bucket + b.Folder(folder)
	}
	return RepositoryLocal + ":" + b.Folder(folder)
}

// Folder is a folder below path.
func (b *Backup) Folder(name string) string { return strings.TrimSuffix(b.Path, "/") + "/" + name }

// Schedule is when backups of a type (full, diff or incr, as in plan.BackupType) are due;
// false: never.
func (b *Backup) Schedule(t string) (schedule.Schedule, bool) {
	expr := map[string]string{"full": b.Schedules.Full, "diff": b.Schedules.Differential, "incr": b.Schedules.Incremental}[t]
	if !b.On() || never(expr) {
		return schedule.Schedule{}, false
	}
	s, err := schedule.Parse(expr, b.TimeZone)
	return s, err == nil // the document was checked
}

// VerifySchedule is when a proof is due that backups can be restored; false: never.
func (b *Backup) VerifySchedule() (schedule.Schedule, bool) {
	if !b.On() || never(b.Verify.Schedule) {
		return schedule.Schedule{}, false
	}
	s, err := schedule.Parse(b.Verify.Schedule, b.TimeZone)
	return s, err == nil // the document was checked
}

// never: such a backup is never due. The word is for a shell, where an empty text is hard
// to write.
func never(expr string) bool { return expr == "" || expr == "none" }

// backupDefaults are those that depend on where the repository is. A folder of the host
// costs nothing to fill, so each night has a full backup, which is restored fastest; over
// the network one a week is, and nights between copy what changed.
func backupDefaults(_ string, set settings) map[string]any {
	if s, ok := set["repository"]; ok && s.value == RepositoryS3 {
		return map[string]any{
			"path": "/pgctrl", "cipher": "aes-256-cbc",
			"schedules.full": "0 1 * * 0", "schedules.incremental": "0 1 * * 1-6",
		}
	}
	return map[string]any{"path": "/var/lib/pgbackrest", "cipher": CipherNone, "schedules.full": "0 1 * * *"}
}

func checkBackup(d *resolved) []Problem {
	b := d.doc.(*Backup)
	var out []Problem
	if b.Repository == RepositoryS3 {
		for _, f := range []string{"s3.endpoint", "s3.bucket"} {
			if _, ok := d.full[f]; !ok {
				p := d.problem("repository", "expected %s too, without which an object store can't be found, found nothing", f)
				p.Suggestion = fmt.Sprintf("set %s", f)
				out = append(out, p)
			}
		}
		if _, port, ok := strings.Cut(b.S3.Endpoint, ":"); ok {
			if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
				out = append(out, d.problem("s3.endpoint", "expected a port from 1 to 65535, found %s", port))
			}
		}
	} else {
		for _, path := range d.set.paths() {
			// What the fleet's defaults say of a store is for the clusters that use one.
			if strings.HasPrefix(path, "s3.") && d.set[path].key == d.key {
				p := d.problem(path, "expected repository s3, which alone has it, found repository %s", b.Repository)
				p.Suggestion = "set repository to s3, or unset repository and s3 in one command"
				out = append(out, p)
			}
		}
	}
	if _, err := schedule.Zone(b.TimeZone); err != nil {
		return append(out, d.problem("time_zone", "%s", err))
	}
	for _, f := range []struct{ path, expr string }{
		{"schedules.full", b.Schedules.Full}, {"schedules.differential", b.Schedules.Differential}, {"schedules.incremental", b.Schedules.Incremental},
		{"verify.schedule", b.Verify.Schedule},
	} {
		if never(f.expr) {
			continue
		}
		if _, err := schedule.Parse(f.expr, b.TimeZone); err != nil {
			out = append(out, d.problem(f.path, "%s", err))
		}
	}
	return out
}

// checkArchiving finds an archive_mode with which nothing, or too much, would be archived:
// pgBackRest takes WAL from the primary alone.
func checkArchiving(c *Cluster) []Problem {
	if !c.Loaded("backup") || !c.Loaded("postgres") || !c.Backup.On() || c.Invalid("backup") || c.Invalid("postgres") {
		return nil
	}
	mode, set := c.Postgres.Parameters["archive_mode"]
	switch v := strings.ToLower(fmt.Sprint(mode)); {
	case !set || v == "on" || v == "true" || v == "yes" || v == "1":
		return nil
	default:
		p := c.resolved["backup"].problem("enabled", "expected archive_mode on, without which there are no backups, found archive_mode %s among the parameters of the document postgres", v)
		p.Suggestion = "set enabled to false, or unset that parameter"
		return []Problem{p}
	}
}

var _ = register(Kind{
	Name:    "backup",
	Meaning: "Where backups and WAL of the cluster are kept and for how long, and when backups are made; without it each night, in a folder of the primary's own host.",
	builtin: backupDefaults,
	check:   checkBackup,
	store:   func(c *Cluster, _ string, doc any) { c.Backup = *doc.(*Backup) },
}, Backup{}, nil)
