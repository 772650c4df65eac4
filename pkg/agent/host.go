package agent

import (
	"context"
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
	// Reinit has the member's data copied anew and returns when that has begun.
	Reinit(ctx context.Context, cluster string) error
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
