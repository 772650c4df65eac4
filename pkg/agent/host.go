package agent

import (
	"context"
	"errors"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Host is everything the agent asks of the machine it runs on. The agent decides;
// these act. Package command wires the real ones, package agenttest the fakes.
type Host struct {
	// Drivers returns the drivers for one cluster; secret looks up that cluster's
	// secrets and answers from memory.
	Drivers func(cluster string, secret func(name string) ([]byte, bool)) Drivers
	// Router carries targets to the running HAProxy.
	Router Router
	// Postgres returns a watcher of this node's own member. It is called again,
	// and the old watcher ended, when the plan moves the member to another port.
	Postgres func(cluster string, own plan.Member) PostgresWatcher
	// Peers asks a member's Patroni what its PostgreSQL does.
	Peers Peers
	// Addresses makes virtual addresses so.
	Addresses Addresses
	// Patroni asks this host's own Patroni.
	Patroni LocalPatroni
	// Acts are what people's commands ask of a member; nil: this host takes none.
	Acts Acts
	// Backups and BackupRuns are pgBackRest's; nil: this host takes no backups.
	Backups    Backups
	BackupRuns BackupRuns
	// Scratch restores backups beside clusters, InPlace puts one in the place of its data; nil:
	// this host does not.
	Scratch Scratch
	InPlace InPlace
	// Hooks runs the programs of operators that hooks name; nil: this host runs none.
	Hooks Hooks
	// ArchiveWords is what archiving last said that went wrong, empty when that is not known;
	// nil: nobody says.
	ArchiveWords func(cluster string) string
	// ArchiveDropped is the newest segment that archiving says it dropped; nil or empty: none.
	ArchiveDropped func(cluster string) string
	// Roots are the folders in which data directories are made, by their paths; nil: nobody looks.
	Roots func() []Room
	// Streams tells PostgreSQL's restore_command whether a member gets its WAL from its
	// primary, so that the archive need not be asked (plan.StreamsFile); nil: nobody does.
	Streams func(cluster string, yes bool) error
	// Inventory says what is installed.
	Inventory Inventory
	// Takeover makes room for a unit before it is applied for the first time.
	Takeover Takeover
	// SetAside renames a data directory that stays behind, so that no later member
	// takes it for its own, and says where the data are. It refuses while a PostgreSQL
	// runs in it. Doing it again says the same. Nil: data stay where they are.
	SetAside func(ctx context.Context, data, uid string) (where string, err error)
	// Pooler returns a watcher of the cluster's PgBouncer on this host; nil: nobody
	// vouches for poolers here.
	Pooler func(cluster string) PoolerWatcher
	// Watcher tells when to compare; nil: only the clock does.
	Watcher Watcher
	// Repairs returns, once each, what the Router undid of what was set by hand in a
	// unit's running program; nil: it does not say.
	Repairs func(unit string) []Repair
	// Expires is until when the certificate is good that a unit's program shows to clients,
	// and the file that it is in; the zero time: it shows none. Nil: nobody says.
	Expires func(u plan.Unit) (at time.Time, file string)
	// Rooms is what the file systems of a member's folders have left, and of a cluster's
	// backup repository on this host; nil: nobody says.
	Rooms func(cluster string, u plan.Unit) []Room
	// Clock is how far this host's clock is ahead of that of the etcd at an endpoint, the
	// first that answers; nil: nobody says.
	Clock func(ctx context.Context) (ahead time.Duration, endpoint string, err error)
	// Contested reports whether the Router's last Assert found a read-write server of
	// the unit that is held up although its check gets no answer; nil: it does not say.
	Contested func(unit string) bool
}

// Watcher notices that a resource may no longer be what was applied.
type Watcher interface {
	// Watch calls changed when r's files or unit may have become others, until ctx
	// ends. It may call without need; changed does not block.
	Watch(ctx context.Context, r plan.Resource, changed func())
}

// Repair is one thing that was set by hand in a running program and put back.
type Repair struct {
	// What names the thing, as in "server primary/m1".
	What string
	// Was is what it had been set to, as in "maint".
	Was string
}

// Drivers make one cluster's resources so.
type Drivers struct {
	Unit    plan.Driver[plan.Unit]
	Patroni plan.Driver[plan.Patroni]
	// SQL is nil on a host that never has a member.
	SQL SQLObjects
	// File is nil on a host that takes no files by themselves.
	File plan.Driver[plan.Watched]
}

// Router carries a HAProxy unit's targets to the running process and to the file
// from which the next one starts.
type Router interface {
	// Assert makes the running HAProxy hold u.Targets: what is Down is said again on
	// every call, what is Up, and the cutting of stale workers' sessions, only on an
	// edge. moves counts the servers whose state this call changed.
	Assert(ctx context.Context, u plan.Unit, edge bool) (moves int, err error)
	// ComposeState writes the server-state file that u's next start or reload begins
	// with, from u.Targets. Without any it is the conservative file: what runs is kept,
	// and where nothing runs read-write servers begin down.
	ComposeState(ctx context.Context, u plan.Unit) error
}

// PostgresState is what one question to the local PostgreSQL showed.
type PostgresState struct {
	Reachable  bool
	InRecovery bool
	// Streaming: a replica gets WAL from the leader. False out of recovery.
	Streaming bool
	// RecoveryTimeline is the timeline that a replica which does not stream recovers along; 0 otherwise.
	RecoveryTimeline int64
	// Altered names the parameters that ALTER SYSTEM set, comma between them.
	Altered string
	// Refused: it is known that it takes no connections; nobody listens, or it says so.
	Refused bool
	// System is the system identifier of the cluster that answered.
	System   string
	Timeline int64
	// Data tells its data directory from one that was copied anew in its place, or rewound.
	Data int64
	// Archiving is a primary's; it is some seconds old.
	Archiving observed.Archiving
	// At is when the question was *asked*. Monotonic. An answer proves nothing about
	// a leadership that began after it.
	At time.Time
}

// PostgresWatcher asks one PostgreSQL over a standing connection, again and again.
type PostgresWatcher interface {
	// Run calls changed when an answer differs from the one before, until ctx ends.
	// changed does not block.
	Run(ctx context.Context, changed func())
	// Last is the newest answer, changed or not.
	Last() PostgresState
	// Fast asks every 2 ms instead of every 250 ms, and takes effect at once.
	Fast(on bool)
}

// PoolerState is what a watcher found of a pooler.
type PoolerState struct {
	// Known is false before it was found to be up or not.
	Known, Up bool
	// Why says what is wrong with one that is not up; it does not change meanwhile.
	Why string
}

// PoolerWatcher watches one pooler over a standing connection, and ends what people
// paused in it.
type PoolerWatcher interface {
	// Run calls changed when Last or Repairs has something new, until ctx ends.
	// changed does not block.
	Run(ctx context.Context, changed func())
	Last() PoolerState
	// Repairs returns, once each, what it resumed.
	Repairs() []Repair
	// HandsOff leaves what people paused as it is.
	HandsOff(bool)
}

// Peers asks Patroni and PostgreSQL of any member of the cluster, what needs no password.
type Peers interface {
	Status(ctx context.Context, m plan.Member) (patroni.Status, error)
	// Answers asks the member's PostgreSQL on its port, without logging in; nil: it
	// answered, which says nothing about what it would do.
	Answers(ctx context.Context, m plan.Member) error
}

// Acts are done once, because a person asked for them, by the cluster's local Patroni.
type Acts interface {
	// Restart restarts PostgreSQL and returns when it is up again; with pending only if
	// a value waits for that, and did says whether one did.
	Restart(ctx context.Context, cluster string, pending bool) (did bool, err error)
	// Reinit has the member's data copied anew and returns when that has begun; ErrBusy says
	// that Patroni does something else.
	Reinit(ctx context.Context, cluster string) error
}

// ErrBusy: Patroni does one thing at a time, and is at another one.
var ErrBusy = errors.New("busy")

// Backups are what pgBackRest does for a cluster, in a minute or two each. What it refuses
// is a *plan.Refusal.
type Backups interface {
	// Look reads what the repository holds of the database with a system identifier.
	Look(ctx context.Context, cluster, system string) (*observed.Repository, error)
	// Local is the folder of a repository that is on this host alone.
	Local(cluster string) (folder string, is bool)
	// Stanza makes the stanza where there is none, and proves that WAL reaches the archive.
	Stanza(ctx context.Context, cluster string, own plan.Member) error
	// Archive finishes the current segment of WAL and waits until the archive has it.
	Archive(ctx context.Context, cluster string, own plan.Member) (lsn string, err error)
	// Heartbeat commits a row under an id, and waits until the archive has it.
	Heartbeat(ctx context.Context, cluster string, own plan.Member, id string) (observed.Heartbeat, error)
	// Left archives what a member finished and had not archived when it became a replica,
	// and says how much of it still waits.
	Left(ctx context.Context, cluster string) (waits int, err error)
}

// BackupOrder is a backup as a step asks for it.
type BackupOrder struct {
	// Step is the step's name, which the backup itself will have: observed.Backup.Step.
	Step string
	Type plan.BackupType
	// Keep: no older backup is expired with it.
	Keep bool
	// From is the member whose files are copied; Address is where it is, empty when it is the
	// one on this host.
	From, Address string
}

// BackupRun is a backup that goes on, or has ended and was not forgotten yet.
type BackupRun struct {
	// Step is the step that it is for; empty: there is none.
	Step    string
	Running bool
	// Err is how it ended; nil: well.
	Err      error
	Progress *observed.Progress
}

// BackupRuns are backups that go on by themselves, one for each cluster at most, whatever
// becomes of the agent; but not for longer than plan.BackupLost after the last Keep.
type BackupRuns interface {
	Start(ctx context.Context, cluster string, o BackupOrder) error
	// Reach says why a replica can't be copied from; nil: it can, as far as one can tell before.
	Reach(ctx context.Context, cluster string, from plan.Member) error
	Run(ctx context.Context, cluster string) (BackupRun, error)
	Keep(ctx context.Context, cluster string) error
	// End stops it when it goes on, within plan.BackupStop, and forgets how it ended.
	End(ctx context.Context, cluster string) error
}

// ScratchOrder is a restore beside the cluster as a step asks for it.
type ScratchOrder struct {
	// Step is the step's name, which tells one order from another.
	Step string
	// Dir is the folder that it is in, made anew: with data/, and nothing else that lasts. Bin
	// is the folder of PostgreSQL's programs.
	Dir, Bin string
	// Backup is the label of the backup that it begins with, Target where it ends.
	Backup string
	Target plan.RecoveryTarget
	// Offline: PostgreSQL in it has no network and no sight of the repository.
	Offline bool
	// Keep: <Dir>/data stays, promoted and shut down cleanly. Otherwise all goes with End.
	Keep bool
	// Heartbeat is the id of a heartbeat that has to be there after recovery; empty: none.
	Heartbeat string
}

// ScratchRun is a scratch restore that goes on, or has ended and was not forgotten yet.
type ScratchRun struct {
	// Step is the step that it is for; empty: there is none.
	Step    string
	Running bool
	// Err is how it ended; nil: well, with Result.
	Err      error
	Progress *observed.Progress
	// Message says what it is at.
	Message string
	Result  *observed.Recovered
}

// Scratch are restores beside clusters, one for each cluster at most, that go on by themselves
// whatever becomes of the agent; but not for longer than plan.BackupLost after the last Keep.
type Scratch interface {
	Start(ctx context.Context, cluster string, o ScratchOrder) error
	// Run looks at it, and takes it from one stage to the next.
	Run(ctx context.Context, cluster string) (ScratchRun, error)
	Keep(ctx context.Context, cluster string) error
	// End stops it when it goes on, within plan.BackupStop, and forgets how it ended. Its folder
	// goes too, unless it ended well and was to be kept.
	End(ctx context.Context, cluster string) error
	// Remove deletes a folder that a scratch restore made and nothing else; one that is not
	// there is none.
	Remove(ctx context.Context, cluster, dir string) error
}

// Inventory says what the machine is and has.
type Inventory interface {
	// MachineID tells this machine from another one with the same node name.
	MachineID() (string, error)
	// Programs returns versions by program name, and PostgreSQL's major versions,
	// ascending.
	Programs(ctx context.Context) (programs map[string]string, postgresql []int, err error)
}

// Takeover stops what the distribution started by itself and what would stand in
// a unit's way. What holds somebody's data is refused with a *plan.Refusal.
type Takeover interface {
	// Prepare returns one sentence for each thing it did; doing nothing is normal.
	Prepare(ctx context.Context, cluster string, own plan.Member, u plan.Unit) ([]string, error)
}

// alive is the presence record that inventory and settings make.
func alive(node, address, machine, version string, programs map[string]string, postgresql []int) observed.Alive {
	return observed.Alive{
		Schema: observed.Schema, Node: node, Address: address, MachineID: machine,
		Version: version, PlanSchema: plan.Schema, Programs: programs, PostgreSQL: postgresql,
	}
}
