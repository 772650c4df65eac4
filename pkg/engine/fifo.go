package engine

import "container/heap"

// fifo is a list of items linked through themselves: adding and taking out
// anywhere cost nothing, which moving a key to a higher class needs.
type fifo struct{ first, last *item }

func (f *fifo) append(it *item) {
	it.prev, it.next = f.last, nil
	if f.last == nil {
		f.first = it
	} else {
		f.last.next = it
	}
	f.last = it
}

func (f *fifo) remove(it *item) {
	if it.prev == nil {
		f.first = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		f.last = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.prev, it.next = nil, nil
}

// schedule is a heap of items by time.
type schedule []*item

var _ heap.Interface = (*schedule)(nil)

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].position, s[j].position = i, j
}

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	it := x.(*item)
	it.position = len(*s)
	*s = append(*s, it)
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	old := *s
	it := old[len(old)-1]
	it.position = -1
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	return it
}
