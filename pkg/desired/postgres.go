package desired

import (
	"fmt"
	"time"
)

// Postgres is a cluster's PostgreSQL and Patroni: postgres.
type Postgres struct {
	Meta                 `yaml:"-"`
	Version              int            `yaml:"version" default:"0" min:"0" max:"99" effect:"rebuild" unit:"major version" example:"15" says:"The PostgreSQL major version, 13 or later; 0 takes the newest that all the cluster's nodes have, once, when the cluster forms."`
	Port                 int            `yaml:"port" default:"5432" min:"1024" max:"65535" effect:"restart" unit:"TCP port" example:"5442" says:"The port PostgreSQL listens on, on every member."`
	RestPort             int            `yaml:"rest_port" default:"8008" min:"1024" max:"65535" effect:"reload" unit:"TCP port" example:"8018" says:"The port of Patroni's REST API, which HAProxy's checks ask."`
	DataDirectory        string         `yaml:"data_directory" format:"path" pattern:"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$" note:"/var/lib/postgresql/<version>/<cluster>" effect:"rebuild" example:"/data/pg-test" says:"Where the data is, on every member; taken once, when the cluster forms."`
	Parameters           map[string]any `yaml:"parameters" effect:"reload" example:"work_mem=16MB" says:"PostgreSQL's own settings, such as work_mem: 16MB; what a running server can't take waits as PendingRestart."`
	TTL                  Duration       `yaml:"ttl" default:"30s" min:"20s" max:"1h" effect:"reload" unit:"whole seconds" example:"1m" says:"How long the leader key lives without its leader; after a crash no other member leads before."`
	LoopWait             Duration       `yaml:"loop_wait" default:"10s" min:"1s" max:"10m" effect:"reload" unit:"whole seconds" example:"5s" says:"How often Patroni looks after its PostgreSQL; loop_wait + 2 * retry_timeout must not exceed ttl."`
	RetryTimeout         Duration       `yaml:"retry_timeout" default:"10s" min:"3s" max:"30m" effect:"reload" unit:"whole seconds" example:"5s" says:"How long Patroni retries etcd and PostgreSQL before it gives up leading."`
	MaximumLagOnFailover Size           `yaml:"maximum_lag_on_failover" default:"1MB" effect:"reload" example:"16MB" says:"A replica that is further behind than this does not lead after a crash."`
	SynchronousMode      string         `yaml:"synchronous_mode" default:"off" enum:"off,on,strict,quorum" effect:"reload" example:"on" says:"on: a commit waits for a replica while there is one; strict: also when there is none, so that writes stop rather than be lost; quorum: for as many as synchronous_node_count of all, whichever is first (Patroni 4.0 or later on every node)."`
	SynchronousNodeCount int            `yaml:"synchronous_node_count" default:"1" min:"1" max:"100" effect:"reload" unit:"replicas" example:"2" says:"For how many replicas a commit waits in synchronous mode."`
	Watchdog             string         `yaml:"watchdog" default:"automatic" enum:"off,automatic,required" effect:"reload" example:"required" says:"A watchdog device that resets a hung host: automatic uses the one that Patroni may open, required lets no member lead without one."`
	FailsafeMode         bool           `yaml:"failsafe_mode" default:"true" effect:"reload" example:"false" says:"The primary keeps leading without etcd for as long as it sees all members."`
	UsePgRewind          bool           `yaml:"use_pg_rewind" default:"true" effect:"reload" example:"false" says:"A former primary is rewound to follow the new one, rather than copied again."`
	TLS                  string         `yaml:"tls" default:"off" enum:"off,allow,require" effect:"reload" example:"allow" says:"TLS for clients of PostgreSQL and of PgBouncer. allow: with it or without; require: nobody comes over the network without. No session is cut by a change."`
	TLSCertificate       string         `yaml:"tls_certificate" format:"path" pattern:"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$" note:"one that pgctrl makes and renews" effect:"reload" example:"/etc/ssl/pg-test/server.crt" says:"The file with the server's certificate, and those that it is signed by, on every member's node; needs tls_key."`
	TLSKey               string         `yaml:"tls_key" format:"path" pattern:"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$" note:"one that pgctrl makes" effect:"reload" example:"/etc/ssl/pg-test/server.key" says:"The file with the certificate's key, which the user postgres can read and others can't; it may be the certificate's file."`
	TLSAuthority         string         `yaml:"tls_authority" format:"path" pattern:"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$" note:"the one that pgctrl makes; with tls_certificate: none" effect:"reload" example:"/etc/ssl/pg-test/clients.crt" says:"The file with the authorities whose certificates clients may show (clientcert, method cert), on every member's node."`
	TLSNames             []string       `yaml:"tls_names" format:"tls name" pattern:"^[A-Za-z0-9_*]([A-Za-z0-9_.:-]{0,251}[A-Za-z0-9])?$" note:"[]" effect:"reload" example:"[db.example.org]" says:"Further names and addresses by which clients come; the certificate that pgctrl makes has them besides those of members, nodes, cluster and virtual address."`
	State                string         `yaml:"state" default:"present" enum:"present,absent" own:"true" effect:"move" example:"present" says:"absent removes the whole cluster from every host; its data are kept. It takes the cluster's name in confirm. See pgctrl remove."`
	Confirm              string         `yaml:"confirm" own:"true" note:"none" effect:"none" example:"pg-test" says:"The cluster's name, typed, without which state: absent is refused."`
	UseSlots             bool           `yaml:"use_slots" default:"true" effect:"reload" example:"false" says:"The primary keeps WAL for every member by replication slots."`
	Slots                map[string]any `yaml:"slots" effect:"reload" example:"cdc.type=physical" says:"Replication slots that a new leader has too, as slot.setting: type (physical or logical), for a logical one database and plugin. An entry that is deleted leaves its slot as it is; slot.state: absent drops it, and whoever reads from it begins anew."`
}

// BinDir is the folder of PostgreSQL's programs of a major version, as Debian has it.
func BinDir(version int) string { return fmt.Sprintf("/usr/lib/postgresql/%d/bin", version) }

// DataDir is where the data is of a cluster of the given major version.
func (p *Postgres) DataDir(cluster string, version int) string {
	if p.DataDirectory != "" {
		return p.DataDirectory
	}
	return fmt.Sprintf("/var/lib/postgresql/%d/%s", version, cluster)
}

// The words of tls.
const (
	TLSOff     = "off"
	TLSAllow   = "allow"
	TLSRequire = "require"
)

// HasTLS reports whether clients may use TLS.
func (p *Postgres) HasTLS() bool { return p.TLS != TLSOff && p.TLS != "" }

// oldestVersion is the oldest major version whose parameters (wal_keep_size) and
// catalogs the rest of the program knows.
const oldestVersion = 13

func checkPostgres(d *resolved) []Problem {
	p := d.doc.(*Postgres)
	var out []Problem
	if p.Version != 0 && p.Version < oldestVersion {
		out = append(out, d.problem("version", "expected 0 or a major version from %d on, found %d", oldestVersion, p.Version))
	}
	switch {
	case p.TLSCertificate != "" && p.TLSKey == "":
		out = append(out, d.problem("tls_certificate", "expected tls_key beside it, found none"))
	case p.TLSCertificate == "" && p.TLSKey != "":
		out = append(out, d.problem("tls_key", "expected tls_certificate beside it, found none"))
	}
	for _, f := range []struct {
		name  string
		value Duration
	}{{"ttl", p.TTL}, {"loop_wait", p.LoopWait}, {"retry_timeout", p.RetryTimeout}} {
		if f.value.Std()%time.Second != 0 {
			out = append(out, d.problem(f.name, "expected whole seconds, which is all that Patroni knows, found %q", f.value))
		}
	}
	out = append(out, checkSlots(d, p)...)
	if len(out) > 0 {
		return out
	}
	// Patroni 3.2 refuses it, older ones accept it and lose the leader key by and by.
	if least := p.LoopWait + 2*p.RetryTimeout; least > p.TTL {
		q := d.problem(d.blame("loop_wait", "retry_timeout", "ttl"),
			"expected loop_wait + 2 * retry_timeout to be at most ttl, found %s + 2 * %s = %s and ttl %s",
			p.LoopWait, p.RetryTimeout, least, p.TTL)
		q.Suggestion = fmt.Sprintf("set ttl to %s or more", least)
		out = append(out, q)
	}
	return out
}

// blame picks the field to put a problem at that several share: the first that the
// document itself sets, else the first that any document sets.
func (d *resolved) blame(fields ...string) string {
	for _, own := range []bool{true, false} {
		for _, f := range fields {
			if s, ok := d.set[f]; ok && (s.key == d.key || !own) {
				return f
			}
		}
	}
	return fields[0]
}

var _ = register(Kind{
	Name:    "postgres",
	Meaning: "The cluster's PostgreSQL and the Patroni that runs it.",
	check:   checkPostgres,
	store:   func(c *Cluster, _ string, doc any) { c.Postgres = *doc.(*Postgres) },
}, Postgres{}, map[string]*entryRule{
	"parameters": {
		check: checkParameter, effect: parameterEffect, pattern: parameterPattern,
		refused: sortedKeys(refusedParameters), restart: restartParameters, least: patroniFloor,
	},
	"slots": slotRule,
})
