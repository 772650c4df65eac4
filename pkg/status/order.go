package status

import (
	"cmp"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// notes are reasons that people should know of and nothing waits for: they concern
// what a person decided, or what only a person will.
var notes = []observed.Reason{
	observed.NoServer, observed.PendingRestart, observed.PatroniPaused, observed.StandbyCluster, observed.Unmanaged,
	observed.FixedAtForming, observed.MisplacedKey, observed.PatroniTooOld, observed.StoreNotRedundant,
	observed.StoreFilling, observed.SnapshotFailed, observed.Removed, observed.AlteredByHand, observed.CertificateExpires,
	observed.DiskFilling, observed.StoreSlow, observed.ClockWrong,
}

// urgency orders the other reasons: first what keeps clients from their data, then
// what keeps the cluster from its documents, then what solves itself.
var urgency = []observed.Reason{
	observed.WrongSystem, observed.DuplicateMember, observed.LeaderFlapping, observed.StoreChanged, observed.StoreCorrupt, observed.NoSpace,
	observed.NoLeader, observed.NotConfirmed, observed.RouteDiffers, observed.NodeAbsent, observed.Stopped, observed.Forked, observed.NotStreaming,
	observed.Frozen, observed.PortInUse, observed.MissingProgram, observed.Rejected, observed.RolledBack, observed.ApplyFailed, observed.DriftReturns,
	observed.NotAnswering, observed.Internal, observed.InvalidDocument, observed.PortConflict, observed.UnknownNode,
	observed.RecordLost, observed.Leading, observed.PlanTooLarge, observed.VersionUnavailable, observed.Unsupported, observed.UnsupportedSchema,
	observed.WaitingForNode, observed.WaitingForSecret, observed.WaitingForLeader,
	observed.StaleView, observed.RollingOut, observed.Removing, observed.NotPlanned, observed.NotApplied,
}

// aside are concerns that look at a cluster, or copy it, and through which no client goes:
// what a host refuses of them is for people to know, and the cluster is Ready all the same.
var aside = []string{topology.Monitor, "log", topology.Backup}

// Hooks is the concern of what is wrong with hooks.
const Hooks = "hooks"

// Aside reports whether the condition is about such a concern.
func (c Condition) Aside() bool { return slices.Contains(aside, c.Concern) }

// refusedAside are the reasons that do not count there.
var refusedAside = []observed.Reason{
	observed.MissingProgram, observed.PortInUse, observed.PortConflict, observed.Rejected, observed.RolledBack, observed.NotAnswering,
	observed.ApplyFailed, observed.DriftReturns, observed.UnsupportedSchema, observed.Unsupported,
}

// Blocking reports whether the condition stands between the cluster and Ready. A
// freeze does once something waits for its end: what was asked for is not in force.
func (c Condition) Blocking() bool {
	if c.Concern == Hooks {
		return false // nothing of the cluster waits for who is told of it
	}
	return c.Bad() && !slices.Contains(notes, c.Reason) && !(c.Aside() && slices.Contains(refusedAside, c.Reason))
}

func (c Condition) rank() int {
	if c.Blocking() {
		if i := slices.Index(urgency, c.Reason); i >= 0 {
			return i
		}
		return len(urgency)
	}
	if c.Reason == observed.Frozen || c.Reason == observed.Overridden {
		return 99 // what people hold or keep still explains more than any other note
	}
	if i := slices.Index(notes, c.Reason); i >= 0 {
		return 100 + i
	}
	return 200
}

// worstFirst orders conditions and drops what is said twice: two concerns that
// read one bad document both say so.
func worstFirst(cs []Condition) []Condition {
	slices.SortStableFunc(cs, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(cs, func(a, b Condition) bool {
		return a.Reason == b.Reason && a.Node == b.Node && a.Key == b.Key && a.Message == b.Message
	})
}
