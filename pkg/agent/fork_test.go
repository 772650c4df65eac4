package agent

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestLedTimelines: two members that led on timelines of one number are forks, and no
// other course of things looks like that.
func TestLedTimelines(t *testing.T) {
	const sys = "7"
	primary := func(tl int64) PostgresState {
		return PostgresState{Reachable: true, System: sys, Timeline: tl, Data: 100}
	}
	replica := PostgresState{Reachable: true, InRecovery: true, System: sys, Data: 100}
	copied := replica
	copied.Data = 200
	streams := replica
	streams.Streaming = true
	is := func(member string, tl int64) *observed.Primary {
		return &observed.Primary{Member: member, Timeline: tl, Writable: true}
	}
	type look struct {
		local     PostgresState
		confirmed *observed.Primary
	}
	for _, tc := range []struct {
		name   string
		looks  []look
		want   int64 // the timeline that was led
		forked bool
	}{
		{"never led", []look{{replica, is("m1", 1)}, {replica, is("m3", 2)}}, 0, false},
		{"leads, and is not confirmed yet", []look{{primary(2), nil}}, 2, false},
		{"a planned move", []look{{primary(2), is("m2", 2)}, {replica, is("m1", 3)}, {replica, is("m1", 3)}}, 2, false},
		{"there and back", []look{{primary(2), is("m2", 2)}, {replica, is("m1", 3)}, {primary(4), is("m2", 4)}}, 4, false},
		{"killed before anybody heard of its timeline", []look{{primary(2), is("m2", 2)}, {PostgresState{}, is("m1", 2)}, {replica, is("m1", 2)}}, 2, true},
		{"and was never confirmed itself", []look{{primary(2), nil}, {replica, is("m1", 2)}}, 2, true},
		{"it stays so when the other one moved on", []look{{primary(2), nil}, {replica, is("m1", 2)}, {replica, is("m3", 3)}}, 2, true},
		{"until it is copied anew", []look{{primary(2), nil}, {replica, is("m1", 2)}, {copied, is("m1", 2)}}, 0, false},
		{"also while the agent was away", []look{{primary(2), nil}, {copied, is("m1", 2)}, {copied, nil}}, 0, false},
		{"or leads itself", []look{{primary(2), nil}, {replica, is("m1", 2)}, {primary(3), is("m2", 3)}}, 3, false},
		{"restarted, it leads on where it was", []look{{primary(2), is("m2", 2)}, {PostgresState{}, nil}, {primary(2), is("m2", 2)}}, 2, false},
		{"its Patroni is stopped, and another took over", []look{{primary(2), is("m2", 2)}, {primary(2), is("m1", 3)}, {replica, is("m1", 3)}}, 2, false},
		{"rewound below it", []look{{primary(3), nil}, {replica, is("m1", 2)}, {streams, is("m1", 2)}, {replica, is("m3", 3)}}, 0, false},
		{"behind it, and not rewound", []look{{primary(3), nil}, {replica, is("m1", 2)}, {replica, is("m3", 3)}}, 3, true},
		{"a PostgreSQL that is not this cluster's", []look{{PostgresState{Reachable: true, System: "8", Timeline: 2, Data: 100}, nil}, {replica, is("m1", 2)}}, 0, false},
		{"a confirmation that knows no timeline", []look{{primary(2), is("m2", 2)}, {replica, is("m1", 0)}}, 2, false},
	} {
		var l ledOn
		for _, x := range tc.looks {
			l = l.next("m2", sys, x.local, x.confirmed)
		}
		if l.Timeline != tc.want || l.Forked != tc.forked {
			t.Errorf("%s: %+v, want timeline %d, forked %v", tc.name, l, tc.want, tc.forked)
		}
	}
}
