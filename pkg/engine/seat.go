package engine

import "runtime"

// seats are where workers compute. A controller waits for nothing while it plans, so
// more of them at once than there are processors would end no sooner: they would keep
// each other waiting, and with them what is urgent, the lease and a leader's events. A
// worker takes a key only once it has a seat, so that the most urgent goes first.
//
// There are two even with one processor, so that a controller that does not return
// leaves one to the others.
type seats chan struct{}

func newSeats() seats { return make(seats, max(2, runtime.GOMAXPROCS(0))) }

// seat is one worker's, which has it or has not.
type seat struct {
	of  seats
	has bool
}

// take waits for a seat unless the worker has it already.
func (p *seat) take() {
	if !p.has {
		p.of <- struct{}{}
		p.has = true
	}
}

// leave gives the seat to the next.
func (p *seat) leave() {
	if p.has {
		<-p.of
		p.has = false
	}
}
