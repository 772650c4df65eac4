// Package keys is the key layout: the one place in the program that spells an
// etcd path. Everything else asks it for keys and hands it keys to understand.
//
// A prefix always ends with "/" so that a range over cluster "pg-test" can never
// match "pg-test2".
package keys

import (
	"fmt"
	"regexp"
	"strings"
)

// Layout says where the two trees live.
type Layout struct {
	// Root is the prefix of everything pgctrl writes; "/pgctrl" by default.
	Root string
	// Patroni is Patroni's namespace; "/pg" by default. Patroni alone writes there.
	Patroni string
}

// Default is the layout used when nothing else is set.
var Default = Layout{Root: "/pgctrl", Patroni: "/pg"}

// Family names a group of keys that are read and written by the same programs.
// Controllers declare their inputs and outputs in families; an agent's rights
// are families narrowed to its node.
type Family string

// The families, in the order of DESIGN section 4.
const (
	Nodes    Family = "desired/nodes"
	Defaults Family = "desired/defaults"
	Hooks    Family = "desired/hooks"
	Desired  Family = "desired/clusters"
	Formed   Family = "formed"
	Plan     Family = "plan"
	Primary  Family = "primary"
	VIP      Family = "vip"
	Ready    Family = "ready"
	Hold     Family = "hold"
	Turn     Family = "turn"
	Observed Family = "observed"
	// Moves are what each node saw and did when a leader moved, with its own time stamps.
	Moves      Family = "moves"
	Steps      Family = "steps"
	Results    Family = "results"
	Operations Family = "operations"
	Alive      Family = "alive"
	Status     Family = "status"
	Changes    Family = "changes"
	Events     Family = "events"
	// Cursors say how far a server has come with something that goes on for ever.
	Cursors Family = "cursors"
	// Deliveries are how far each hook is, and what was given up.
	Deliveries Family = "deliveries"
	// Verdicts are what hooks are asked before something is done, and what they said.
	Verdicts Family = "verdicts"
	Secrets  Family = "secrets"
	// Authorities are the keys that clusters' certificates are signed with. They are a
	// family of their own so that no agent needs a right that covers them.
	Authorities Family = "authorities"
	Election    Family = "election"
	Store       Family = "store"
	PatroniKey  Family = "patroni"
	Unknown     Family = ""
)

// NodeCluster is the pseudo cluster under which plans of programs live that
// several clusters on one node share.
const NodeCluster = "_node"

// Fleet is the pseudo cluster of what concerns no single one: events of nodes and servers, and
// what belongs to hooks of all clusters.
const Fleet = "_fleet"

var (
	clusterName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)
	// Patroni puts no limit on member names but uses them as path elements and in
	// application_name; PostgreSQL truncates the latter at 63 bytes.
	memberName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	nodeName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$`)
	docName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$`)
)

// CheckCluster says what is wrong with a cluster name, or nil.
func CheckCluster(s string) error {
	return check(clusterName, "cluster name", s, "a lower-case letter, then up to 39 of a-z 0-9 -")
}

// CheckMember says what is wrong with a member name, or nil.
func CheckMember(s string) error {
	return check(memberName, "member name", s, "a letter or digit, then up to 62 of A-Z a-z 0-9 _ . -")
}

// CheckNode says what is wrong with a node name, or nil.
func CheckNode(s string) error {
	return check(nodeName, "node name", s, "a host name: a letter or digit, then up to 62 of A-Z a-z 0-9 . -")
}

// CheckName says what is wrong with the name of a service or another named document, or nil.
func CheckName(s string) error {
	return check(docName, "name", s, "1 to 63 of A-Z a-z 0-9 _ . -")
}

func check(re *regexp.Regexp, what, s, want string) error {
	if re.MatchString(s) {
		return nil
	}
	return fmt.Errorf("%s %q is not valid: expected %s", what, s, want)
}

func (l Layout) root(parts ...string) string {
	return strings.TrimRight(l.Root, "/") + "/" + strings.Join(parts, "/")
}

// Prefix is the range of one family.
func (l Layout) Prefix(f Family) string {
	if f == PatroniKey {
		return strings.TrimRight(l.Patroni, "/") + "/"
	}
	if f == Store {
		return l.root("store")
	}
	return l.root(string(f)) + "/"
}

// RootPrefix is the range of everything pgctrl writes.
func (l Layout) RootPrefix() string { return l.root("") }

// DesiredPrefix is the range of every document people write.
func (l Layout) DesiredPrefix() string { return l.root("desired", "") }

// Node is a node's document.
func (l Layout) Node(node string) string { return l.root("desired/nodes", node) }

// DefaultsDoc is a fleet-wide default document, such as "postgres" or "services/primary".
func (l Layout) DefaultsDoc(doc string) string { return l.root("desired/defaults", doc) }

// ClusterDocs is the range of one cluster's documents.
func (l Layout) ClusterDocs(cluster string) string { return l.root("desired/clusters", cluster, "") }

// ClusterDoc is one document of a cluster; doc is the tail of its key, such as "members/pg-test-1".
func (l Layout) ClusterDoc(cluster, doc string) string {
	return l.root("desired/clusters", cluster, doc)
}

// FormedKey records what was decided once, when the cluster formed.
func (l Layout) FormedKey(cluster string) string { return l.root("formed", cluster) }

// PlanKey is what one node must converge to for one cluster and concern.
func (l Layout) PlanKey(node, cluster, concern string) string {
	return l.root("plan", node, cluster, concern)
}

// NodePlans is the range of one node's plans.
func (l Layout) NodePlans(node string) string { return l.root("plan", node, "") }

// PrimaryKey is a cluster's confirmed primary.
func (l Layout) PrimaryKey(cluster string) string { return l.root("primary", cluster) }

// VIPKey is the holder of a cluster's virtual address.
func (l Layout) VIPKey(cluster string) string { return l.root("vip", cluster) }

// ReadyKey is what a member's own agent vouches for.
func (l Layout) ReadyKey(cluster, member string) string { return l.root("ready", cluster, member) }

// ReadyPrefix is the range of a cluster's ready keys.
func (l Layout) ReadyPrefix(cluster string) string { return l.root("ready", cluster, "") }

// TurnKey is whose turn it is to repair what drifted in a cluster during a freeze.
func (l Layout) TurnKey(cluster string) string { return l.root("turn", cluster) }

// ObservedKey is a node's report on one plan.
func (l Layout) ObservedKey(node, cluster, concern string) string {
	return l.root("observed", node, cluster, concern)
}

// NodeObserved is the range of one node's reports.
func (l Layout) NodeObserved(node string) string { return l.root("observed", node, "") }

// OperationKey is one piece of work with phases; id is unique within its cluster.
func (l Layout) OperationKey(cluster, id string) string { return l.root("operations", cluster, id) }

// ClusterOperations is the range of a cluster's operations, TokenKey among them.
func (l Layout) ClusterOperations(cluster string) string { return l.root("operations", cluster, "") }

// Token is the name, among a cluster's operations, of who may disrupt the cluster now.
const Token = "token"

// TokenKey says who may disrupt a cluster: one operation at a time.
func (l Layout) TokenKey(cluster string) string { return l.OperationKey(cluster, Token) }

// StepID is the name of the n-th act of an operation: names of operations are unique
// within a cluster, and a node has steps of all of its clusters.
func StepID(cluster, operation string, n int) string {
	return fmt.Sprintf("%s.%s-%d", cluster, operation, n)
}

// StepKey is one act asked of a node; id is a StepID.
func (l Layout) StepKey(node, id string) string { return l.root("steps", node, id) }

// NodeSteps is the range of the acts asked of a node.
func (l Layout) NodeSteps(node string) string { return l.root("steps", node, "") }

// ResultKey is what came of a step.
func (l Layout) ResultKey(node, id string) string { return l.root("results", node, id) }

// AliveKey is a node's leased presence.
func (l Layout) AliveKey(node string) string { return l.root("alive", node) }

// StatusKey is a cluster's conditions.
func (l Layout) StatusKey(cluster string) string { return l.root("status", cluster) }

// ChangesKey says who changed a cluster's documents last, from where and why.
func (l Layout) ChangesKey(cluster string) string { return l.root("changes", cluster) }

// MovesKey is what a node saw and did when the cluster's leader moved.
func (l Layout) MovesKey(node, cluster string) string { return l.root("moves", node, cluster) }

// NodeMoves is the range of one node's moves.
func (l Layout) NodeMoves(node string) string { return l.root("moves", node, "") }

// FleetHook is the document of a hook for every cluster.
func (l Layout) FleetHook(name string) string { return l.root("desired/hooks", name) }

// EventKey is one event; id is <revision>-<n>.
func (l Layout) EventKey(cluster, id string) string { return l.root("events", cluster, id) }

// ClusterEvents is the range of a cluster's events.
func (l Layout) ClusterEvents(cluster string) string { return l.root("events", cluster, "") }

// EventsCursor is up to which revision events have been found and written.
func (l Layout) EventsCursor() string { return l.root("cursors/events") }

// EventsRemoved is up to where a cluster's oldest events had to go; cluster is Fleet for those of
// the fleet and of clusters that have none any more.
func (l Layout) EventsRemoved(cluster string) string { return l.root("cursors/removed", cluster) }

// AllEventsRemoved is the range of EventsRemoved.
func (l Layout) AllEventsRemoved() string { return l.root("cursors/removed", "") }

// Deliveries is the range of what there is of a scope's hooks: how far they are, what was given up.
func (l Layout) Deliveries(cluster string) string { return l.root("deliveries", cluster, "") }

// DeliveryState is how far a hook is; cluster is Fleet for one of all clusters.
func (l Layout) DeliveryState(cluster, hook string) string {
	return l.root("deliveries", cluster, hook, "state")
}

// DeadLetter is an event that was given up for a hook; id is the event's cluster and ID.
func (l Layout) DeadLetter(cluster, hook, id string) string {
	return l.root("deliveries", cluster, hook, "dead", id)
}

// DeadLetters is the range of what was given up for a hook.
func (l Layout) DeadLetters(cluster, hook string) string {
	return l.root("deliveries", cluster, hook, "dead", "")
}

// Redelivery asks for an event to be delivered to a hook once more.
func (l Layout) Redelivery(cluster, hook, id string) string {
	return l.root("deliveries", cluster, hook, "again", id)
}

// Redeliveries is the range of what is to be delivered once more.
func (l Layout) Redeliveries(cluster, hook string) string {
	return l.root("deliveries", cluster, hook, "again", "")
}

// VerdictKey is what hooks are asked before something is done to a cluster, and what they said.
func (l Layout) VerdictKey(cluster, id string) string { return l.root("verdicts", cluster, id) }

// Secret is one password or key of a cluster.
func (l Layout) Secret(cluster, name string) string { return l.root("secrets", cluster, name) }

// userSecrets is the part of a cluster's secrets that are its users' passwords.
const userSecrets = "users"

// UserSecret is the name of a user's password among the cluster's secrets.
func UserSecret(user string) string { return userSecrets + "/" + user }

// tlsSecrets is the part of a cluster's secrets that its certificates are.
const tlsSecrets = "tls"

// TLSSecret is the name of a certificate, with its key, among the cluster's secrets.
func TLSSecret(name string) string { return tlsSecrets + "/" + name }

// TLSAuthority is the name of the certificate, without the key, of the authority that
// signs the cluster's certificates.
var TLSAuthority = TLSSecret("authority")

// The secrets of a cluster's backups. The passphrase is made when a repository is to be
// encrypted; the two by which an object store knows who comes are for people to set.
const (
	BackupPassphrase = "backup-passphrase"
	BackupS3Key      = "backup-s3-key"
	BackupS3Secret   = "backup-s3-secret"
)

// backupTLS is the part of a cluster's secrets by which its members' pgBackRest know one another.
const backupTLS = "backup-tls"

// BackupTLSSecret is the name of such a certificate, with its key, among the cluster's secrets.
func BackupTLSSecret(name string) string { return backupTLS + "/" + name }

// The secrets of the backups that a cluster begins with, which are another one's.
const (
	RestorePassphrase = "restore-passphrase"
	RestoreS3Key      = "restore-s3-key"
	RestoreS3Secret   = "restore-s3-secret"
)

// hookSecret is how the names of hooks' keys begin.
const hookSecret = "hook-"

// HookSecret is the name of the key that a hook's webhooks are signed with, among the secrets of
// its cluster, or of Fleet.
func HookSecret(hook string) string { return hookSecret + hook }

// TLSSecrets is the range of a cluster's certificates.
func (l Layout) TLSSecrets(cluster string) string { return l.root("secrets", cluster, tlsSecrets, "") }

// BackupTLSSecrets is the range of the certificates by which its members' pgBackRest know one
// another.
func (l Layout) BackupTLSSecrets(cluster string) string {
	return l.root("secrets", cluster, backupTLS, "")
}

// AuthorityKey is the key with which a cluster's certificates are signed.
func (l Layout) AuthorityKey(cluster string) string { return l.root("authorities", cluster) }

// ClusterSecrets is the range of a cluster's secrets.
func (l Layout) ClusterSecrets(cluster string) string { return l.root("secrets", cluster, "") }

// ElectionKey is leadership among `pgctrl server` processes.
func (l Layout) ElectionKey() string { return l.root("election/server") }

// ServerKey is one server's leased presence, whether it leads or stands by.
func (l Layout) ServerKey(id string) string { return l.root("election/servers", id) }

// Servers is the range of the servers' presences.
func (l Layout) Servers() string { return l.root("election/servers", "") }

// StoreKey identifies this etcd.
func (l Layout) StoreKey() string { return l.root("store") }

// Scope is the range of Patroni's keys of one cluster.
func (l Layout) Scope(cluster string) string {
	return strings.TrimRight(l.Patroni, "/") + "/" + cluster + "/"
}

// Positions are Patroni's keys of how far the last leader came and who may follow it: nobody
// leads whose data end before that.
func (l Layout) Positions(cluster string) []string {
	scope := l.Scope(cluster)
	return []string{scope + "status", scope + "optime/leader", scope + "sync", scope + "failsafe"}
}

// History is Patroni's key of the timelines that ended.
func (l Layout) History(cluster string) string { return l.Scope(cluster) + "history" }

// Leader is Patroni's leader key.
func (l Layout) Leader(cluster string) string { return l.Scope(cluster) + "leader" }

// Members is the range of Patroni's member keys.
func (l Layout) Members(cluster string) string { return l.Scope(cluster) + "members/" }
