package agent

import (
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// stamp is a move that is not in the record yet.
type stamp struct {
	observed.Move
	first bool // the agent knew nothing of it before
}

// movesDue is when the record is written: when nothing was stamped for a while, and
// never while the move may still go on.
func movesDue(oldest, newest, leader time.Time, over bool) time.Time {
	due := newest.Add(movesRest)
	if latest := oldest.Add(movesEvery); due.After(latest) {
		due = latest
	}
	settle := SettleAfterMove
	if !over {
		settle = movesEvery
	}
	return later(due, leader.Add(settle))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// join appends stamps to what a node saw and did before, the newest MaxMoves of all.
// What an agent learns when it starts is a move only if the record says otherwise, and
// what is as the record has it already is none: an agent that starts anew, on a cluster
// where nothing moved, has nothing to write.
func join(old []observed.Move, stamps []stamp) []observed.Move {
	out := slices.Clone(old)
	// By time and not by arrival: who saw and who acted stamp on goroutines of their own.
	slices.SortStableFunc(stamps, func(a, b stamp) int { return a.At.Compare(b.At) })
	for _, s := range stamps {
		last, known := newestLike(out, s.Move)
		if known && (s.first || isState(s.What)) {
			if sameMove(last, s.Move) {
				continue
			}
			s.From = last.To
		}
		if s.first && !known {
			continue
		}
		s.Seq, s.At = lastSeq(observed.Moves{Moves: out})+1, s.At.UTC().Truncate(time.Millisecond)
		out = append(out, s.Move)
	}
	return out[max(0, len(out)-observed.MaxMoves):]
}

// rebase puts what is not known to be in etcd behind what is found there. Nobody but
// this node's agents writes the record: what is found is an earlier state of ours, or an
// earlier process wrote after this one had read.
func rebase(found, ours observed.Moves, unsaved int) (all observed.Moves, left int) {
	n := len(found.Moves)
	if n == 0 {
		return ours, unsaved
	}
	last := found.Moves[n-1]
	i := slices.IndexFunc(ours.Moves, func(m observed.Move) bool {
		return m.Seq == last.Seq && m.What == last.What && m.At.Equal(last.At)
	})
	if i >= 0 {
		return ours, len(ours.Moves) - i - 1
	}
	for _, mv := range ours.Moves[len(ours.Moves)-unsaved:] {
		mv.Seq = lastSeq(found) + 1
		found.Moves = append(found.Moves, mv)
	}
	found.Moves = found.Moves[max(0, len(found.Moves)-observed.MaxMoves):]
	return found, unsaved
}

func lastSeq(r observed.Moves) int64 {
	if n := len(r.Moves); n > 0 {
		return r.Moves[n-1].Seq
	}
	return 0
}

// newestLike is what the record says last about the same thing.
func newestLike(ms []observed.Move, mv observed.Move) (observed.Move, bool) {
	for _, old := range slices.Backward(ms) {
		if subject(old.What) == subject(mv.What) && old.Name == mv.Name {
			return old, true
		}
	}
	return observed.Move{}, false
}

// subject is what a move is about: two kinds of moves say opposite things of one.
func subject(k observed.MoveKind) observed.MoveKind {
	switch k {
	case observed.MoveLost:
		return observed.MoveLeader
	case observed.MoveVIPRemoved:
		return observed.MoveVIPAdded
	}
	return k
}

// isState reports whether a move says how something is from then on, whatever the epoch:
// two of them in a row never say the same.
func isState(k observed.MoveKind) bool {
	switch k {
	case observed.MoveRoute, observed.MoveVIPAdded, observed.MoveVIPRemoved, observed.MovePooler, observed.MoveDNS:
		return true
	}
	return false
}

// sameMove reports whether two moves of one subject say the same.
func sameMove(a, b observed.Move) bool {
	epochs := a.Epoch == b.Epoch || isState(a.What) || a.What == observed.MoveLost
	return a.What == b.What && a.To == b.To && epochs
}
